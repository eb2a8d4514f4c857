"""What an exception holds, taken out and put back without running any of its own code.

A user's exception may have required constructor arguments, ``args`` that are not what its constructor takes, a
``__setattr__`` that refuses, a ``__str__`` that raises. None of that is asked: values are read and written through the
descriptors of the interpreter's own classes, and new instances come from the built-in ``__new__``.
"""

from __future__ import annotations

import builtins
from contextlib import suppress
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from enqueuer.compute.plain_values import Encoder, NotPlainError, decode

# Read and written as class attributes: a subclass may have put a property of its own over each of them.
_ARGS: Any = vars(BaseException)["args"]
_DICT: Any = vars(BaseException)["__dict__"]
_CAUSE: Any = vars(BaseException)["__cause__"]
_CONTEXT: Any = vars(BaseException)["__context__"]
# What each of them has as its ``object``.
_UNICODE_ERRORS = {UnicodeDecodeError: bytes, UnicodeEncodeError: str, UnicodeTranslateError: str}
_SUPPRESSED: Any = vars(BaseException)["__suppress_context__"]


def take_args(error: BaseException, *, max_bytes: int) -> tuple[Any, ...] | None:
    """``args`` as plain values, or None if they are not plain or larger than ``max_bytes`` together."""
    try:
        return tuple(Encoder(max_bytes).encode(list(_ARGS.__get__(error))))
    except NotPlainError:
        return None


def take_attributes(error: BaseException, *, max_bytes: int) -> dict[str, Any] | None:
    """The plain ones among the instance's attributes, slots and built-in fields (``errno``, ``filename``, …)."""
    encoder = Encoder(max_bytes)
    taken: dict[str, Any] = {}
    for name, value in _values(error).items():
        with suppress(NotPlainError):
            key, content = encoder.encode([name, value])
            taken[key] = content
    return taken or None


def make_exception(cls: type[Exception], args: tuple[Any, ...], attributes: dict[str, Any] | None) -> Exception:
    """An instance of ``cls`` with these, as taken by the functions above. No constructor of the user's is called.

    Raises TypeError or NotPlainError where that cannot be, as for an ExceptionGroup, which only its constructor fills.
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
            # Straight into the instance's dict: setattr could run the user's code, and some classes forbid it.
            _instance_dict(error)[name] = value
    if native in _UNICODE_ERRORS:
        _check_unicode(error, native)
    return error


def get_cause(error: BaseException) -> BaseException | None:
    """What Python would print above this error: ``raise … from``, else what was being handled, unless hidden."""
    cause: BaseException | None = _CAUSE.__get__(error)
    if cause is None and not _SUPPRESSED.__get__(error):
        cause = _CONTEXT.__get__(error)
    return cause


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """``error.__cause__ = cause``, also for an exception that forbids assignments, such as a frozen dataclass."""
    _CAUSE.__set__(error, cause)


def _check_unicode(error: Exception, native: Any) -> None:
    """Their str() reads ``object`` at ``start``, in C, and believes that both are what a constructor would have made.

    With others the process that shows the exception reads foreign memory, or dies (CPython up to 3.13).
    """
    content, start, end = (vars(native)[name].__get__(error) for name in ("object", "start", "end"))
    if content is None:
        return  # never set: there is nothing to read
    if type(content) is not _UNICODE_ERRORS[native] or not 0 <= start <= end <= len(content):
        raise NotPlainError("a UnicodeError that points to what is not there")


def _values(error: BaseException) -> dict[str, Any]:
    values = dict(_instance_dict(error))
    for name, field in _fields(type(error)).items():
        try:
            value = field.__get__(error)
        except AttributeError:
            continue
        # None is what the field of a new instance holds anyway.
        if value is not None:
            values[name] = value
    return {name: value for name, value in values.items() if type(name) is str}


def _fields(cls: type) -> dict[str, Any]:
    """The descriptors in C of the classes below BaseException: slots, and the fields of built-in exceptions."""
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
