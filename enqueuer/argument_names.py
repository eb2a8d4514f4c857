"""Names of arguments: the error for an unknown or misplaced keyword says where it belongs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import ParamSpec

from enqueuer.argument_values import nearest_name
from enqueuer.options import OPTION_NAMES, Timing, describe_options

_P = ParamSpec("_P")

START_ARGUMENTS = ("workers", "max_queue_size", "epoch")
# Names that other libraries have, and those of the other program.
_OTHER_NAMES = {
    "num_workers": ": the number of workers is an argument of start(), start(workers=…)",
    "processes": ": set use_multiprocessing=True, and their number in start(workers=…)",
    "batch_size": ": a Sequence makes whole batches, so their size is an argument of its own constructor",
    **dict.fromkeys(
        ("connect", "token_file", "allow", "max_memory", "drain_timeout", "once"),
        ": it belongs to the command `enqueuer worker`",
    ),
}


def with_options(constructor: Callable[_P, None]) -> Callable[_P, None]:
    """Decorate a constructor that takes `Options` as keywords.

    Its docstring ends with every option's sentence. Its error for an unknown keyword names the class, and the nearest
    option or the place where the keyword belongs.
    """
    parameters = inspect.signature(constructor).parameters.values()
    known = [parameter.name for parameter in parameters][1:]
    positional_count = sum(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)

    @wraps(constructor)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> None:
        owner = type(args[0]).__name__
        for name, value in kwargs.items():
            if name not in known:
                raise TypeError(
                    f"{owner} has no option {name!r}{_misplaced_option(name, value) or nearest_name(name, known)}"
                )
        if len(args) > positional_count:
            raise TypeError(f"{owner} takes options by keyword, such as shuffle=True, not by position")
        constructor(*args, **kwargs)

    checked.__doc__ = f"{inspect.getdoc(constructor) or ''}\n{describe_options()}\n"
    return checked


def with_start_arguments(start: Callable[_P, None]) -> Callable[_P, None]:
    """Decorate ``start()``: its error for an unknown keyword names the nearest one, or the place where it belongs."""

    @wraps(start)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> None:
        for name, value in kwargs.items():
            if name not in START_ARGUMENTS:
                owner = type(args[0]).__name__
                is_option = name in OPTION_NAMES or name == "use_multiprocessing"
                hint = f": it is an option, {owner}(sequence, {name}={value!r:.60})" if is_option else ""
                raise TypeError(f"start() has no argument {name!r}{hint or nearest_name(name, START_ARGUMENTS)}")
        start(*args, **kwargs)

    return checked


def _misplaced_option(name: str, value: object) -> str:
    """Where a keyword of the constructor belongs instead; '' if nowhere."""
    if name in START_ARGUMENTS:
        return f": it is an argument of start(), start({name}={value!r:.60})"
    if name in {option.name for option in fields(Timing)}:
        return f": it is a part of timing, timing=Timing({name}={value!r:.60})"
    return _OTHER_NAMES.get(name, "")
