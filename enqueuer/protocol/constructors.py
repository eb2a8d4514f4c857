"""Reduces objects that standard pickling cannot make again, since their constructors do not take what it keeps.

    an exception            pickling keeps ``args``, and calls the class with them
    a ``__new__`` with      pickling keeps what ``__getnewargs__`` gives: nothing, a tuple's items, a str's text;
    arguments of its own    the class that has ``__getnewargs__`` can make the object of these
    a ``__reduce__``        names a class or function and its arguments: a clear error, here, if they do not fit; or a
                            global of the script, which workers do not have: the object's attributes travel

The objects of the first two are made by a base class, without the user's code, and get their attributes as always.
"""

from __future__ import annotations

import builtins
import copyreg
import inspect
import math
import pickle
import sys
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any

from enqueuer.protocol.plain_reduction import is_made_of_attributes, reduce_plainly
from enqueuer.protocol.script_code import MainStandIn

_REDUCTIONS = ("__reduce__", "__reduce_ex__")
_NEW_ARGS = ("__getnewargs__", "__getnewargs_ex__")


def choose(cls: type) -> Callable[[Any], Any] | None:
    """The reduction for instances of this class; None if the standard one surely makes them again."""
    if issubclass(cls, type) or cls in copyreg.dispatch_table:
        return None
    if issubclass(cls, BaseException):
        return _reduce_exception
    own_new, own_init = (_find(cls, name) for name in ("__new__", "__init__"))
    if all(getattr(cls, name) is getattr(object, name) for name in _REDUCTIONS):
        return _reduce_by_base if isinstance(own_new, FunctionType) else None
    has_own_reduction = any(isinstance(_find(cls, name), FunctionType) for name in _REDUCTIONS)
    has_own_constructor = any(isinstance(method, FunctionType) for method in (own_new, own_init))
    return _Checked() if has_own_reduction or has_own_constructor else None


def _reduce_exception(error: BaseException) -> Any:
    reduced = error.__reduce_ex__(4)
    cls = type(error)
    if type(reduced) is not tuple or reduced[0] is not cls or _takes(cls, len(reduced[1])):
        return reduced
    native = next(base for base in cls.__mro__ if vars(builtins).get(base.__name__) is base)
    return _make_exception, (native, cls, *reduced[1]), *reduced[2:]


def _make_exception(native: Any, cls: type, *args: Any) -> Any:
    made = native.__new__(cls, *args)
    native.__init__(made, *args)  # an OSError takes its fields here
    return made


def _reduce_by_base(value: Any) -> Any:
    reduced = value.__reduce_ex__(4)
    function, (cls, *args), *rest = reduced
    if function is not copyreg.__newobj__:  # type: ignore[attr-defined]
        return reduced
    owners = [base for base in cls.__mro__ if any(name in vars(base) for name in _NEW_ARGS)]
    # A built-in's are for its own constructor: a tuple's are one tuple, which a ``__new__(cls, *items)`` would wrap.
    is_for_base = owners and not any(isinstance(vars(owners[0]).get(name), FunctionType) for name in _NEW_ARGS)
    if not is_for_base and _binds(cls.__new__, 1 + len(args)):
        return reduced
    makes = (
        owners[0] if owners else next(base for base in cls.__mro__ if isinstance(_new_of(base), BuiltinFunctionType))
    )
    if not _binds(makes.__new__, 1 + len(args)):
        raise _misfit(f"{makes.__qualname__}.__getnewargs__", cls, len(args))
    return _make, (makes, cls, *args), *rest


def _make(base: Any, cls: type, *args: Any) -> Any:
    return base.__new__(cls, *args)


class _Checked:
    """Reduces the instances of one class. Most name the same function, and a Sequence may hold a million of them."""

    def __init__(self) -> None:
        self._last: tuple[Any, int] = None, 0

    def __call__(self, value: Any) -> Any:
        reduced = value.__reduce_ex__(5)
        if type(reduced) is str:
            return _reduce_global(value, reduced)
        if type(reduced) is tuple and type(reduced[1]) is tuple:
            function, count = reduced[0], len(reduced[1])
            if function is not self._last[0] or count != self._last[1]:
                _check(type(value), function, count)
                self._last = function, count
        return reduced


def _reduce_global(value: Any, name: str) -> Any:
    """Reduce a global that names itself, such as a sentinel: one of the script by its attributes, to a global again.

    The script's functions get the same object, and so does the trainer where a batch holds it.
    """
    main = sys.modules["__main__"]
    is_scripts = pickle.whichmodule(value, name) == main.__name__ == "__main__"  # type: ignore[attr-defined]
    if not is_scripts or isinstance(main, MainStandIn):
        return name
    cls = type(value)
    if not is_made_of_attributes(cls):
        raise TypeError(
            f"{cls.__qualname__}.__reduce__ names the global {name} of the script, which worker processes do not run: "
            "move the class and the global to a module of their own, and import them from there"
        )
    _, args, *rest = reduce_plainly(value)
    return _make_global, (name, *args), *rest


def _make_global(name: str, cls: type, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    main = sys.modules["__main__"]
    if not isinstance(main, MainStandIn):
        return cls.__new__(cls, *args, **keywords)
    # Methods of the class that name the global are unpickled before it, and have made it already.
    found = vars(main).get(name)
    if type(found) is not cls:
        found = cls.__new__(cls, *args, **keywords)
        setattr(main, name, found)
    return found


def _check(cls: type, function: Any, count: int) -> None:
    if isinstance(function, type | FunctionType) and not _takes(function, count):
        raise _misfit(f"{cls.__qualname__}.__reduce__", function, count)


def _misfit(source: str, function: Any, count: int) -> TypeError:
    return TypeError(f"{source} gives {count} arguments for {function.__qualname__}, which does not take these")


def _takes(function: Any, count: int) -> bool:
    """Whether a class or function can be called with so many arguments; True if that is not known."""
    if not isinstance(function, type):
        return _binds(function, count)
    if type(function).__call__ is not type.__call__:
        return True  # the metaclass decides
    new, init = (_find(function, name) for name in ("__new__", "__init__"))
    if isinstance(new, FunctionType):
        return _binds(new, 1 + count)  # what it returns need not be an instance, so __init__ is open
    if isinstance(init, FunctionType):
        return _binds(init, 1 + count)
    return count == 0 or new is not object.__new__ or init is not object.__init__


def _binds(function: Any, count: int) -> bool:
    """Whether a function takes so many arguments, all by position; True for one that is not written in Python."""
    if not isinstance(function, FunctionType):
        return True
    # The code decides: decorators show another signature.
    code = function.__code__
    names = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    if set(names) - set(function.__kwdefaults__ or ()):
        return False
    most = math.inf if code.co_flags & inspect.CO_VARARGS else code.co_argcount
    return code.co_argcount - len(function.__defaults__ or ()) <= count <= most


def _find(cls: type, name: str) -> Any:
    """The method as the class or a base defines it."""
    found = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
    return found.__func__ if isinstance(found, staticmethod) else found


def _new_of(base: type) -> Any:
    return vars(base).get("__new__")
