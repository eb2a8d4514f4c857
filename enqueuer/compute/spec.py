"""`SequenceSpec`: a Sequence by name, from which trainer and workers each build their own instance."""

from __future__ import annotations

import copy
import importlib
import inspect
import keyword
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from enqueuer.compute.seeding import BUILD, seeded_globals
from enqueuer.compute.sequence_checks import check_sequence
from enqueuer.errors import ConfigurationError, with_article
from enqueuer.protocol.unpacking import INTEGERS

_DEPTH_LIMIT = 32


class SequenceSpec:
    """``SequenceSpec("package.module:callable", **kwargs)``: each process calls the callable with the arguments.

    The target is a module's dotted name, a colon, and the name of a class or function in it; or that class or function
    itself, which must be importable by its name. Arguments go by keyword and are plain values: None, bool, int (64
    bits), float, str, bytes, and lists and str-keyed dicts of those. They travel as msgpack, which has no tuple: a
    tuple becomes a list at once, so that trainer and workers pass the same value. A spec is immutable and comparable.

    Raises:
        ConfigurationError: the target cannot be named, or an argument cannot travel.
        TypeError: an argument was not given by keyword.
    """

    __slots__ = ("_kwargs", "_target")
    _target: str
    _kwargs: dict[str, Any]

    def __init__(self, target: str | Callable[..., Any], /, *arguments: NoReturn, **kwargs: Any) -> None:
        if not isinstance(target, str):
            target = name_target(target)
        split_target(target)
        if arguments:
            raise TypeError(
                f"SequenceSpec takes the arguments of {target!r} by keyword, such as "
                f"{_example(target, arguments[0])}, not by position"
            )
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_kwargs", {name: _plain(value, name, 0) for name, value in kwargs.items()})

    @property
    def target(self) -> str:
        """The callable, as "package.module:callable"."""
        return self._target

    @property
    def kwargs(self) -> dict[str, Any]:
        """A copy of the keyword arguments."""
        return copy.deepcopy(self._kwargs)

    def build(self) -> Any:
        """Import the module and make an instance. Exceptions of either are passed on.

        The global generators are seeded alike in every process meanwhile: many Sequences shuffle their indices in the
        constructor, and instances with different orders would deliver some samples twice and others never.
        """
        return call_factory(import_target(self._target), self._target, self.kwargs)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a SequenceSpec is immutable; make a new one to change {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a SequenceSpec is immutable; {name} cannot be deleted")

    def __repr__(self) -> str:
        arguments = "".join(f", {name}={value!r}" for name, value in self._kwargs.items())
        return f"SequenceSpec({self._target!r}{arguments})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SequenceSpec):
            return NotImplemented
        return self._target == other._target and self._kwargs == other._kwargs

    def __hash__(self) -> int:
        return hash(self._target)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._target, self._kwargs)


def call_factory(factory: Callable[..., Any], target: str, kwargs: dict[str, Any]) -> Any:
    """Call a target under the seeds for building. Raises TypeError if its result cannot serve as a Sequence."""
    with seeded_globals(0, 0, BUILD):
        sequence = factory(**kwargs)
    try:
        check_sequence(sequence)
    except TypeError as error:
        raise TypeError(f"{target!r} gave no Sequence: {error}") from None
    return sequence


def name_target(target: object) -> str:
    """The 'package.module:callable' of a class or function. Raises ConfigurationError if workers cannot import it."""
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if not callable(target) or not isinstance(module, str) or not isinstance(name, str):
        raise ConfigurationError(
            "a SequenceSpec is made of a class or function, or of its name in the form 'package.module:callable', not "
            f"of {with_article(type(target).__qualname__)} ({target!r:.60}); a Sequence that is an object goes to "
            "SequenceEnqueuer as it is"
        )
    if name.rpartition(".")[2] == "<lambda>":
        raise ConfigurationError(
            "a lambda has no name by which workers could import it: define a function with def at the top level of a "
            "module, and name that"
        )
    if inspect.ismethod(target):
        raise ConfigurationError(
            f"a SequenceSpec is made of a class or function, not of the method {name}: write a function that makes its "
            "object and returns the Sequence, and name that"
        )
    if module != "__main__" and getattr(sys.modules.get(module), name, None) is not target:
        raise ConfigurationError(
            f"{module}.{name} cannot be imported by its name: move it to the top level of a module that workers can "
            "import"
        )
    return f"{module}:{name}"


def _example(target: str, argument: Any) -> str:
    """An argument that was given by position, as a keyword."""
    if type(argument) is dict and argument and all(isinstance(name, str) for name in argument):
        return ", ".join(f"{name}={value!r:.60}" for name, value in argument.items())
    return f"{_first_parameter(target)}={argument!r:.60}"


def _first_parameter(target: str) -> str:
    """The name of the first argument of a target, if its module is imported; else an example's."""
    module, name = split_target(target)
    try:
        return next(iter(inspect.signature(getattr(sys.modules.get(module), name)).parameters))
    except (AttributeError, TypeError, ValueError, StopIteration):
        return "count"


def split_target(target: object) -> tuple[str, str]:
    """Split 'package.module:callable' into module and name. Raises ConfigurationError for another form."""
    module, colon, name = target.partition(":") if isinstance(target, str) else ("", "", "")
    if not colon or not all(map(_is_name, [*module.split("."), name])):
        raise ConfigurationError(
            f"{target!r} is not of the form 'package.module:callable', such as "
            f"{_corrected(target) or 'myproject.data:TrainingSequence'!r}"
        )
    if module == "__main__":
        raise ConfigurationError(
            f"{target!r} names another module in each process: move {name} into a module that workers can import"
        )
    return module, name


def _corrected(target: object) -> str:
    """The likely meaning of a malformed target, such as 'data:Train' for 'data.Train' and 'src/data.py:Train'."""
    if not isinstance(target, str):
        return ""
    module, colon, name = target.rpartition(":" if ":" in target else ".")
    module = module.removesuffix(".py").strip("./").replace("/", ".")
    return f"{module}:{name}" if colon and all(map(_is_name, [*module.split("."), name])) else ""


def import_target(target: str) -> Callable[..., Any]:
    """Import the callable named by 'package.module:callable'.

    Exceptions of the import are passed on. Raises ConfigurationError if the name is malformed or is no callable.
    """
    module_name, name = split_target(target)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and lacks one that it imports itself
        cure = "correct the name, or put the module's directory on the import path (PYTHONPATH)"
        if module_name.endswith(".py"):
            cure = f"a module's name has no .py, as in '{module_name.removesuffix('.py')}:{name}'"
        text = f"{error} (of {target!r}): {cure}"
        raise ModuleNotFoundError(text, name=error.name) from None
    found = getattr(module, name, None)
    if not callable(found):
        problem = "nothing" if found is None else f"{with_article(type(found).__qualname__)}, which cannot be called,"
        raise ConfigurationError(f"{target!r}: the module {module_name} has {problem} under the name {name!r}")
    return found  # type: ignore[no-any-return]


def _is_name(part: str) -> bool:
    return part.isidentifier() and not keyword.iskeyword(part)


def _restore(target: str, kwargs: dict[str, Any]) -> SequenceSpec:
    return SequenceSpec(target, **kwargs)


def _plain(value: Any, where: str, depth: int) -> Any:
    """A copy of a plain value with the types that it has on arrival."""
    if depth > _DEPTH_LIMIT:
        raise ConfigurationError(f"SequenceSpec argument {where}: nested more than {_DEPTH_LIMIT} levels deep")
    if value is None or type(value) in (bool, float, bytes):
        return value
    if type(value) is int and value in INTEGERS:
        return value
    if type(value) is str and _is_utf8(value):
        return value
    if type(value) in (list, tuple):
        return [_plain(part, f"{where}[{number}]", depth + 1) for number, part in enumerate(value)]
    if type(value) is dict and all(type(key) is str and _is_utf8(key) for key in value):
        return {key: _plain(part, f"{where}[{key!r}]", depth + 1) for key, part in value.items()}
    kind = with_article(type(value).__qualname__)
    raise ConfigurationError(
        f"SequenceSpec argument {where}: {kind} ({value!r:.60}) does not travel. Arguments are None, bool, "
        "64-bit int, float, str, bytes, and lists and str-keyed dicts of those; for a path give its str, for data the "
        "name of the file it is in"
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
