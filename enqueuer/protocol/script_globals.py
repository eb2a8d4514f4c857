"""Globals of a script that its functions look up while they run, and that their code does not name.

    globals()["flip"], eval("flip(x)")            the function's own globals have them
    import __main__, sys.modules[__name__],       the worker's stand-in for ``__main__`` has them, unpickled when
    pickle.load(file) of the script's classes     they are first asked for
    get_type_hints() of annotations as texts      both have them

cloudpickle sends a function with the globals that its code names. Where the code names one of `_ASKS_GLOBALS` or
`_ASKS_MAIN`, the script's functions, classes and values with names in capitals travel, too, and with `_ASKS_GLOBALS`
plain values by any name: each if it can be pickled alone, in `LIMIT_BYTES`. So the objects of the training (its
enqueuer, its model) stay behind.
"""

from __future__ import annotations

import pickle
import re
import sys
import types
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from enqueuer.protocol.code_names import globals_in, names_in
from enqueuer.protocol.decorators import MemoisedFunction
from enqueuer.protocol.script_code import MainStandIn

LIMIT_BYTES = 64 * 1024
_ASKS_GLOBALS = frozenset({"globals", "eval", "exec"})
_ASKS_MAIN = frozenset({"__main__", "modules", "import_module", "load", "loads", "read_pickle"})
# Sent where a function may read any global; elsewhere a loop's counters would make the Sequence look changed.
_PLAIN = (int, float, complex, bool, str, bytes, type(None), tuple, list, dict, set, frozenset)
DEFINITIONS = (type, types.FunctionType, MemoisedFunction)
_NAME = re.compile(r"[^\W\d]\w*")
_MAIN = "__main__"
# Definitions as they were when first asked for; None: it cannot be pickled alone, or is too large.
_pickled: weakref.WeakKeyDictionary[Any, bytes | None] = weakref.WeakKeyDictionary()


class ScriptGlobals:
    """Completes the functions of one pickle.

    ``pickle_alone`` gives a value's bytes, None if it cannot be sent; without it, functions get what their code names.
    """

    def __init__(self, pickle_alone: Callable[[Any], bytes | None] | None) -> None:
        self._pickle_alone = pickle_alone
        self._late: _LateNames | None = None
        self._main: _GlobalsOfMain | None = None

    def complete_class(self, reduced: tuple[Any, ...], cls: type) -> tuple[Any, ...]:
        """cloudpickle's reduction of a class, with the globals in its annotations."""
        main = sys.modules[_MAIN]
        if self._pickle_alone is None or cls.__module__ != _MAIN or isinstance(main, MainStandIn) or len(reduced) != 6:
            return reduced
        names = self._annotated(vars(cls).get("__annotations__"), vars(main))
        if not names:
            return reduced
        make, args, (namespace, slots), *rest = reduced
        # The second part of the state is only unpickled.
        return make, args, (namespace, {**slots, "": _Names(names)}), *rest

    def complete(self, reduced: tuple[Any, ...], function: types.FunctionType) -> tuple[Any, ...]:
        """cloudpickle's reduction of a function, with the globals that it may look up."""
        make, args, (state, slots), *rest = reduced
        names = set() if self._pickle_alone is None else names_in(function.__code__).keys()
        # Not a method of this name, such as a model's `eval`.
        if names & _ASKS_GLOBALS and globals_in(function.__code__) & _ASKS_GLOBALS:
            slots["__globals__"] = {**self._all_of(function.__globals__, _PLAIN), **slots["__globals__"]}
        if self._pickle_alone is not None:
            annotated = self._annotated(function.__annotations__, function.__globals__)
            slots["__globals__"] = {**annotated, **slots["__globals__"]}
        main = sys.modules[_MAIN]
        if function.__globals__ is not vars(main) or isinstance(main, MainStandIn):
            return reduced
        if names & _ASKS_MAIN:
            # These modules are only unpickled, for what that does.
            slots["_cloudpickle_submodules"].append(self._late_names(vars(main)))
        code, special, *others = args
        self._main = self._main or _GlobalsOfMain(special)
        return make, (code, self._main, *others), (state, slots), *rest

    def _all_of(self, namespace: dict[str, Any], plain: tuple[type, ...] = ()) -> dict[str, Any]:
        return {
            name: value
            for name, value in list(namespace.items())
            if isinstance(value, types.ModuleType) or self._alone(name, value, plain) is not None
        }

    def _annotated(self, annotations: dict[str, Any] | None, namespace: dict[str, Any]) -> dict[str, Any]:
        """The globals that these annotations name, where they are texts."""
        texts = [getattr(value, "__forward_arg__", value) for value in (annotations or {}).values()]
        names = {name: None for text in texts if isinstance(text, str) for name in _NAME.findall(text)}
        return self._all_of({name: namespace[name] for name in names if name in namespace})

    def _late_names(self, namespace: dict[str, Any]) -> _LateNames:
        if self._late is None:
            alone = {name: self._alone(name, value) for name, value in list(namespace.items())}
            self._late = _LateNames({name: pickled for name, pickled in alone.items() if pickled is not None})
        return self._late

    def _alone(self, name: str, value: Any, plain: tuple[type, ...] = ()) -> bytes | None:
        assert self._pickle_alone is not None
        if isinstance(value, DEFINITIONS):
            return None if name.startswith("__") else self._definition(value)
        is_sent = not name.startswith("_") and (name.isupper() or type(value) in plain)
        return self._pickle_alone(value) if is_sent else None

    def _definition(self, value: Any) -> bytes | None:
        assert self._pickle_alone is not None
        try:
            return _pickled[value]
        except KeyError:
            return _pickled.setdefault(value, self._pickle_alone(value))
        except TypeError:  # a metaclass may have made its classes unhashable
            return self._pickle_alone(value)


class _GlobalsOfMain:
    """Unpickles to the globals of the script in that process; ``special`` are ``__file__`` and the like."""

    def __init__(self, special: dict[str, Any]) -> None:
        self._special = special

    def __reduce__(self) -> tuple[Any, ...]:
        return _globals_of_main, (self._special,)


def _globals_of_main(special: dict[str, Any]) -> dict[str, Any]:
    main = sys.modules[_MAIN]
    if not isinstance(main, MainStandIn):
        return special
    vars(main).update(special)
    return vars(main)


class _Names:
    """Names of the script and their values. It unpickles to nothing; the script's globals have them then."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __reduce__(self) -> tuple[Any, ...]:
        return _add_names, (self._values,)


def _add_names(values: dict[str, Any]) -> None:
    main = sys.modules[_MAIN]
    if isinstance(main, MainStandIn):
        vars(main).update(values)


class _LateNames:
    """Names of the script and their pickles. It unpickles to nothing; the stand-in for ``__main__`` has them then."""

    def __init__(self, pickled: dict[str, bytes]) -> None:
        self._pickled = pickled

    def __reduce__(self) -> tuple[Any, ...]:
        return _add_late_names, (self._pickled,)


def _add_late_names(pickled: dict[str, bytes]) -> None:
    main = sys.modules[_MAIN]
    if isinstance(main, MainStandIn):
        main._late.update({name: partial(pickle.loads, data) for name, data in pickled.items()})
