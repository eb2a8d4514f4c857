"""Reduces libraries that ctypes has loaded, and its types of pointers and functions: each process makes its own.

    ctypes.CDLL(path)                           the path, and the types set on its functions
    ctypes.POINTER(type), ctypes.CFUNCTYPE(…)   the types they are made of

A pointer leads into the memory of its process, and so does a function outside of its library: ctypes refuses these.
"""

from __future__ import annotations

import ctypes
from typing import Any

_PYTHON_API, _USE_ERRNO, _USE_LAST_ERROR = 4, 8, 16
_MADE_WITH_IT = frozenset({"_name", "_handle", "_FuncPtr"})
_Function: Any = ctypes._CFuncPtr  # type: ignore[attr-defined]
_Pointer: Any = ctypes._Pointer


def reduce_library(library: Any) -> tuple[Any, ...]:
    """Reduce a library: it is loaded again."""
    functions, attributes = {}, {}
    for name, value in vars(library).items():
        if isinstance(value, _Function):
            functions[name] = value.restype, value.argtypes, value.errcheck
        elif name not in _MADE_WITH_IT:
            attributes[name] = value
    return _load, (type(library), library._name, library._FuncPtr._flags_), (functions, attributes), None, None, _set


def _load(cls: Any, name: str | None, flags: int) -> Any:
    return cls(name, use_errno=bool(flags & _USE_ERRNO), use_last_error=bool(flags & _USE_LAST_ERROR))


def _set(library: Any, state: tuple[dict[str, tuple[Any, Any, Any]], dict[str, Any]]) -> None:
    functions, attributes = state
    vars(library).update(attributes)
    for name, (restype, argtypes, errcheck) in functions.items():
        function = getattr(library, name)
        function.restype = restype
        if argtypes is not None:
            function.argtypes = argtypes
        if errcheck is not None:
            function.errcheck = errcheck


def reduce_type(cls: Any) -> tuple[Any, ...] | None:
    """Reduce a type of pointers or functions; None for other types."""
    if issubclass(cls, _Pointer) and cls is ctypes.POINTER(cls._type_):
        return ctypes.POINTER, (cls._type_,)
    if issubclass(cls, _Function) and hasattr(cls, "_argtypes_"):
        return _make_function_type, (cls._flags_, cls._restype_, *cls._argtypes_)
    return None


def _make_function_type(flags: int, *types: Any) -> Any:
    if flags & _PYTHON_API:
        return ctypes.PYFUNCTYPE(*types)
    return ctypes.CFUNCTYPE(*types, use_errno=bool(flags & _USE_ERRNO), use_last_error=bool(flags & _USE_LAST_ERROR))
