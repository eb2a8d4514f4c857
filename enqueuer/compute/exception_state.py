"""The state of an exception, read and restored without running the exception's own code.

A user's exception may have required constructor arguments, ``args`` that its constructor does not accept, a
``__setattr__`` that refuses, or a ``__str__`` that raises. This module calls none of them: it reads and writes values
through the descriptors of the interpreter's own classes, and makes instances with the built-in ``__new__``.
"""

from __future__ import annotations

import builtins
from contextlib import suppress
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from enqueuer.compute.plain_values import Encoder, NotPlainError, decode

# Descriptors of BaseException itself: a subclass may hide each of them behind a property.
_ARGS: Any = vars(BaseException)["args"]
_DICT: Any = vars(BaseException)["__dict__"]
_CAUSE: Any = vars(BaseException)["__cause__"]
_CONTEXT: Any = vars(BaseException)["__context__"]
# The type of the field ``object`` of each.
_UNICODE_ERRORS = {UnicodeDecodeError: bytes, UnicodeEncodeError: str, UnicodeTranslateError: str}
_SUPPRESSED: Any = vars(BaseException)["__suppress_context__"]


def take_args(error: BaseException, *, max_bytes: int) -> tuple[Any, ...] | None:
    """``args`` as plain values; None if one is not plain, or if together they exceed ``max_bytes``."""
    try:
        return tuple(Encoder(max_bytes).encode(list(_ARGS.__get__(error))))
    except NotPlainError:
        return None


def take_attributes(error: BaseException, *, max_bytes: int) -> dict[str, Any] | None:
    """The instance's attributes, slots and built-in fields (``errno``, ``filename``, …) with plain values."""
    encoder = Encoder(max_bytes)
    taken: dict[str, Any] = {}
    for name, value in _values(error).items():
        with suppress(NotPlainError):
            key, content = encoder.encode([name, value])
            taken[key] = content
    return taken or None


def make_exception(cls: type[Exception], args: tuple[Any, ...], attributes: dict[str, Any] | None) -> Exception:
    """An instance of ``cls`` with the ``args`` of `take_args` and the ``attributes`` of `take_attributes`.

    No constructor of the user is called. Raises TypeError or NotPlainError if the instance cannot be made, as for an
    ExceptionGroup: only its constructor can set its fields.
    """
    native = next(base for base in cls.__mro__ if vars(builtins).get(base.__name__) is base)
    error: Exception = native.__new__(cls)
    _ARGS.__set__(error, tuple(decode(list(args))))
    fields = _fields(cls)
    for name, encoded in (attributes or {}).items():
        value = decode(encoded)
        if name in fields:
            fields[name].__set__(error, value)
        else:
            # Into the instance's dict, because setattr could run the user's code, and some classes forbid it.
            _instance_dict(error)[name] = value
    if native in _UNICODE_ERRORS:
        _check_unicode(error, native)
    return error


def get_cause(error: BaseException) -> BaseException | None:
    """The exception that Python prints above this one: its explicit cause, or else its context unless suppressed."""
    cause: BaseException | None = _CAUSE.__get__(error)
    if cause is None and not _SUPPRESSED.__get__(error):
        cause = _CONTEXT.__get__(error)
    return cause


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """Set ``error.__cause__``, even if the exception forbids assignments, as a frozen dataclass does."""
    _CAUSE.__set__(error, cause)


def _check_unicode(error: Exception, native: Any) -> None:
    """Raise NotPlainError unless ``object``, ``start`` and ``end`` are as a constructor would have set them.

    str() of a UnicodeError reads ``object`` at ``start`` in C and trusts both. With wrong values it reads foreign
    memory or crashes the process (CPython up to 3.13).
    """
    content, start, end = (vars(native)[name].__get__(error) for name in ("object", "start", "end"))
    if content is None:
        return  # str() does not read a field that was never set
    if type(content) is not _UNICODE_ERRORS[native] or not 0 <= start <= end <= len(content):
        raise NotPlainError("a UnicodeError with start and end outside of its object")


def _values(error: BaseException) -> dict[str, Any]:
    values = dict(_instance_dict(error))
    for name, field in _fields(type(error)).items():
        try:
            value = field.__get__(error)
        except AttributeError:
            continue
        # A new instance's fields are None anyway.
        if value is not None:
            values[name] = value
    return {name: value for name, value in values.items() if type(name) is str}


def _fields(cls: type) -> dict[str, Any]:
    """The C descriptors of the subclasses of BaseException: slots, and the fields of built-in exceptions."""
    fields: dict[str, Any] = {}
    for base in cls.__mro__:
        if issubclass(BaseException, base):
            continue
        for name, attribute in vars(base).items():
            if isinstance(attribute, (MemberDescriptorType, GetSetDescriptorType)) and not name.startswith("__"):
                fields.setdefault(name, attribute)
    return fields


def _instance_dict(error: BaseException) -> dict[str, Any]:
    found: dict[str, Any] = _DICT.__get__(error)
    return found
