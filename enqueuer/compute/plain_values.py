"""Plain values: the arguments of an exception as msgpack types, and back. Only a few harmless types are plain.

None, bool, 64-bit int, float, str, bytes and lists stand for themselves. Any other value is a dict of one entry, from
the name of its type to its content, as in ``{"tuple": [1, 2]}``; it comes back equal and with the same type. The names
resolve only to the few constructors at the end of this file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from enqueuer.errors import with_article
from enqueuer.protocol.batch import is_scalar_dtype, parse_scalar_dtype
from enqueuer.protocol.unpacking import INTEGERS

_DEPTH_LIMIT = 16
# Each value counts some bytes beside its content, so that a million empty tuples exceed the limit as well.
_VALUE_BYTES = 8
_MOST_VALUES = 16_384
# Members with equal hashes, which a peer can easily construct, take quadratic time.
_HASHED = frozenset({"set", "frozenset", "dict"})
_MOST_HASHED = 1_024


class NotPlainError(ValueError):
    """The value is of another type, too large or too deep; or its encoded form is not from an `Encoder`."""


def decode(value: Any) -> Any:
    """Decode a value from an `Encoder`. Raises NotPlainError for anything that no `Encoder` makes."""
    try:
        return _Decoder().decode(value, 0)
    except Exception as error:
        # A peer may send anything, and NumPy's parsing of a dtype alone raises half a dozen types of error.
        raise NotPlainError(f"{type(error).__name__}: {error}") from error


class Encoder:
    """Encodes values of about ``max_bytes`` together. Types must match exactly: a subclass would lose its type."""

    def __init__(self, max_bytes: int) -> None:
        self._bytes_left = max_bytes

    def encode(self, value: Any, depth: int = 0) -> Any:
        """Return the value as msgpack types. Raises NotPlainError if it is not plain, or exceeds the bytes left."""
        self._spend(_VALUE_BYTES)
        if depth > _DEPTH_LIMIT:
            raise NotPlainError("nested too deep")
        kind = type(value)
        if value is None or kind is bool or kind is float:
            return value
        if kind is int:
            return self._encode_int(value)
        if kind is bytes:
            self._spend(len(value))
            return value
        if kind is str:
            return self._encode_str(value)
        if kind is list:
            return [self.encode(part, depth + 1) for part in value]
        return self._encode_tagged(value, kind, depth)

    def _encode_tagged(self, value: Any, kind: type, depth: int) -> dict[str, Any]:
        if kind in (set, frozenset, dict) and len(value) > _MOST_HASHED:
            raise NotPlainError(f"a {kind.__name__} of more than {_MOST_HASHED}")
        if kind in (tuple, set, frozenset):
            return {kind.__name__: [self.encode(part, depth + 1) for part in value]}
        if kind is dict:
            pairs = [[self.encode(key, depth + 1), self.encode(part, depth + 1)] for key, part in value.items()]
            return {"dict": pairs}
        if kind is complex:
            return {"complex": [value.real, value.imag]}
        if kind is np.str_:
            return {"str_": self._encode_str(str(value))}
        if isinstance(value, np.generic) and is_scalar_dtype(value.dtype):
            self._spend(value.nbytes)
            return {"scalar": [value.dtype.str, value.tobytes()]}
        if isinstance(value, np.dtype) and is_scalar_dtype(value):
            # NumPy's own errors hold dtypes, such as the MemoryError for an array that is too large.
            return {"dtype": value.str}
        if isinstance(value, PurePath):
            return {"path": self._encode_str(str(value))}
        raise NotPlainError(with_article(kind.__qualname__))

    def _encode_int(self, value: int) -> Any:
        if value in INTEGERS:
            return value
        self._spend(value.bit_length() // 4)
        return {"int": hex(value)}

    def _encode_str(self, value: str) -> str:
        self._spend(len(value))
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise NotPlainError("text with lone surrogates") from error
        return value

    def _spend(self, nbytes: int) -> None:
        if nbytes > self._bytes_left:
            raise NotPlainError("too large")
        self._bytes_left -= nbytes


class _Decoder:
    """Makes at most `_MOST_VALUES` values, twice as many as the limits of an `Encoder` allow."""

    def __init__(self) -> None:
        self._values_left = _MOST_VALUES

    def decode(self, value: Any, depth: int) -> Any:
        self._values_left -= 1
        if depth > _DEPTH_LIMIT or self._values_left < 0:
            raise NotPlainError("nested too deep, or too many")
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        if isinstance(value, (list, tuple)):
            return self._decode_all(value, depth)
        if isinstance(value, dict) and len(value) == 1:
            ((tag, content),) = value.items()
            if tag in _CONTAINERS and isinstance(content, (list, tuple)):
                if tag in _HASHED and len(content) > _MOST_HASHED:
                    raise NotPlainError(f"a {tag} of more than {_MOST_HASHED}")
                return _CONTAINERS[tag](self._decode_all(content, depth))
            if tag in _ATOMS:
                return _ATOMS[tag](content)
        raise NotPlainError("an unknown form")

    def _decode_all(self, parts: Any, depth: int) -> list[Any]:
        return [self.decode(part, depth + 1) for part in parts]


def _decode_scalar(content: Any) -> Any:
    name, raw = content
    dtype = parse_scalar_dtype(name)
    if dtype.itemsize != len(raw):
        raise NotPlainError("not a scalar")
    return np.frombuffer(raw, dtype=dtype)[0]


# A nested key or member that cannot be hashed raises TypeError, which `decode` turns into its own error.
_CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset, "dict": dict}
_ATOMS: dict[str, Callable[[Any], Any]] = {
    "complex": lambda content: complex(*content),
    "int": lambda content: int(_text(content), 16),
    "scalar": _decode_scalar,
    "dtype": parse_scalar_dtype,
    "str_": lambda content: np.str_(_text(content)),
    "path": lambda content: Path(_text(content)),
}


def _text(content: Any) -> str:
    if not isinstance(content, str):
        raise NotPlainError("not a text")
    return content
