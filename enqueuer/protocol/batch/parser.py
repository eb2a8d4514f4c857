"""Parses a batch header into a plan that builds batches. Headers are hostile until they are checked here.

`parse_batch` makes every check, runs no user code, and allocates nothing for the buffers that a header announces. It
turns each node into a reader (`readers.py`), and `BatchPlan.build` calls the readers.

Each type of value is decoded here, by a method of `_Parser`, and encoded in `encoder.py`, by a method of
`_NodeEncoder`. The head of `encoder.py` lists the places that a new type of array needs: here a method of `_Parser`,
its row of `_PARSERS`, and a reader.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from reprlib import repr as short  # of hostile values: plain repr() recurses as deep as they are nested
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np

from enqueuer.errors import ProtocolError
from enqueuer.protocol.batch import format as f
from enqueuer.protocol.batch.codeless_pickles import load_pickle
from enqueuer.protocol.batch.dtypes import parse_dtype, parse_number_dtype, parse_shape, string_dtype
from enqueuer.protocol.batch.format import Batch, Buffer, Received, Trust
from enqueuer.protocol.batch.readers import (
    Computed,
    Constant,
    Dict,
    InlineArray,
    Reader,
    read_buffer,
    read_empty_array,
    read_frame,
    read_framed_array,
    read_list,
    read_objects,
    read_tuple,
)

_MAX_CACHED_HEADER_BYTES = 4096
_MAX_CACHED_PLANS = 256
_MAX_TOKEN_LENGTH = 1024
_MAX_COMPLEX_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Builds the batches of one header, which is fully checked.

    ``inline_bytes`` and ``frame_bytes`` are the sizes of the buffers for `build`. ``nbytes`` is their sum with the
    header's size, and equals `EncodedBatch.nbytes`. ``is_data``: building runs no user code.
    """

    inline_bytes: int
    frame_bytes: tuple[int, ...]
    nbytes: int
    is_data: bool
    reader: Reader

    def build(self, inline: Buffer, frames: Sequence[Received] = (), offset: int = 0) -> Batch:
        """Build the batch from ``inline[offset : offset + inline_bytes]`` and frames of exactly ``frame_bytes``.

        Its arrays are writable and its own. A large frame becomes an array without a copy if its memory is writable
        and aligned to 64 bytes, and is copied to such memory if not; small arrays are copied.
        Only a pickle (`Trust.LOCAL`, `Trust.KEYED`) can raise: the exceptions of the user's code in it.
        """
        return self.reader(inline, offset, frames)

    def build_many(self, inline: Buffer, count: int) -> Sequence[Batch]:
        """Build ``count`` batches that lie end to end in ``inline``. Only for plans with ``is_data`` and no frames.

        This costs a fraction of one call a batch: the arrays of all batches are parts of one piece of memory.
        """
        return self.reader.many(inline, count, self.inline_bytes)


def parse_batch(header: bytes, trust: Trust) -> BatchPlan:
    """Parse a header. Raises `ProtocolError`, and nothing else; time and memory are bounded by the header's length."""
    if len(header) > _MAX_CACHED_HEADER_BYTES:
        return _Parser(header, trust).plan()
    # One cache for each trust: a plan from a local peer's header is never used for a remote peer.
    return _CACHED[trust](header)


def _cached_parser(trust: Trust) -> Callable[[bytes], BatchPlan]:
    return functools.lru_cache(_MAX_CACHED_PLANS)(lambda header: _Parser(header, trust).plan())


_CACHED = {trust: _cached_parser(trust) for trust in Trust}


class _Parser:
    """Reads the nodes of one header, in their order, and counts the buffers that they announce."""

    def __init__(self, header: bytes, trust: Trust) -> None:
        self._trust = trust
        self._header_bytes = len(header)
        self._unpacker = msgpack.Unpacker(
            max_buffer_size=max(len(header), 1),
            max_array_len=_MAX_TOKEN_LENGTH,
            max_map_len=3,
            max_ext_len=0,
            strict_map_key=False,
            unicode_errors="surrogatepass",
        )
        self._unpacker.feed(header)
        self._tokens: Iterator[Any] = iter(self._unpacker)
        self._nodes = 0
        self._inline_bytes = 0
        self._frame_bytes: list[int] = []
        self._is_data = True

    def plan(self) -> BatchPlan:
        try:
            reader = self._node(0)
            if self._unpacker.tell() != self._header_bytes:
                raise ProtocolError("a batch header holds more than one batch")
        except StopIteration:
            raise ProtocolError("a batch header ends too early") from None
        except (ValueError, TypeError, OverflowError, MemoryError, msgpack.UnpackException) as error:
            raise ProtocolError(f"a batch header is malformed: {type(error).__name__}: {error!s:.120}") from None
        nbytes = self._header_bytes + self._inline_bytes + sum(self._frame_bytes)
        return BatchPlan(self._inline_bytes, tuple(self._frame_bytes), nbytes, self._is_data, reader)

    def _node(self, depth: int) -> Reader:
        self._nodes += 1
        if self._nodes > f.MAX_NODES:
            raise ProtocolError(f"a batch header has more than {f.MAX_NODES} nodes")
        token = next(self._tokens)
        kind = type(token)
        if kind in f.PLAIN_TYPES:
            return Constant(token)
        if kind is dict:
            return Constant(_parse_number(token))
        if kind is not list or not token or type(token[0]) is not int or token[0] not in _PARSERS:
            raise ProtocolError(f"unknown node in a batch header: {short(token)}")
        if depth > f.MAX_DEPTH:
            raise ProtocolError(f"a batch is nested deeper than {f.MAX_DEPTH} levels")
        length, parse = _PARSERS[token[0]]
        if len(token) != length:
            raise ProtocolError(f"a node {token[0]} of a batch header has {length} parts, not {len(token)}")
        return parse(self, depth, *token[1:])

    def _nodes_of(self, count: object, depth: int) -> list[Reader]:
        # No allocation by the count: if it is too high, the header ends first.
        return [self._node(depth + 1) for _ in range(_size(count))]

    def _list(self, depth: int, count: object) -> Reader:
        return read_list(self._nodes_of(count, depth))

    def _tuple(self, depth: int, count: object) -> Reader:
        return read_tuple(self._nodes_of(count, depth))

    def _dict(self, depth: int, count: object) -> Reader:
        if _size(count) > f.MAX_DICT_ITEMS:
            raise ProtocolError(f"a dict has more than {f.MAX_DICT_ITEMS} keys")
        items = [(self._key(depth + 1), self._node(depth + 1)) for _ in range(_size(count))]
        if len({key for key, _ in items}) != len(items):
            raise ProtocolError("a dict has the same key twice")
        return Dict(items)

    def _key(self, depth: int) -> Any:
        reader = self._node(depth)
        if type(reader) is not Constant:
            raise ProtocolError("a dict has a key that is not a plain value")
        return reader.value

    def _array(self, depth: int, storage: object, description: object, sizes: object, order: object) -> Reader:
        dtype, shape = parse_dtype(description), parse_shape(sizes)
        if order not in ("C", "F"):
            raise ProtocolError(f"unknown memory order {short(order)}")
        if dtype.subdtype is not None:
            raise ProtocolError("an array of sub-arrays is an array of more dimensions")
        if dtype.kind in "SU" and dtype.itemsize == 0:
            raise ProtocolError("an array of zero-width strings is not one of NumPy's")
        size = math.prod(shape) * dtype.itemsize
        at = self._piece(storage, size)
        if size == 0:
            np.empty(shape, dtype)  # raises now, not in build, if the other dimensions are too large for NumPy
            return read_empty_array(shape, dtype, order)
        return (InlineArray if storage == f.INLINE else read_framed_array)(shape, dtype, at, order)

    def _objects(self, depth: int, kind: object, sizes: object) -> Reader:
        shape = parse_shape(sizes)
        if kind not in ("O", "T"):
            raise ProtocolError(f"unknown kind of array of objects {short(kind)}")
        children = self._nodes_of(math.prod(shape), depth)
        # Make the array here once: it raises now, not in build, if NumPy refuses the shape or a text.
        if kind == "O":
            np.empty(shape, object)
            return read_objects(shape, children)
        strings = [_expect(str, child.value if type(child) is Constant else None) for child in children]
        array = np.array(strings, string_dtype()).reshape(shape)
        return Computed(lambda inline, offset, frames: array.copy())

    def _scalar(self, depth: int, storage: object, description: object) -> Reader:
        array = self._array(depth, storage, description, [], "C")
        return Computed(lambda inline, offset, frames: array(inline, offset, frames)[()])

    def _numpy_str(self, depth: int, text: object) -> Reader:
        return Constant(np.str_(_expect(str, text)))

    def _numpy_bytes(self, depth: int, data: object) -> Reader:
        return Constant(np.bytes_(_expect(bytes, data)))

    def _integer(self, depth: int, data: object) -> Reader:
        return Constant(int.from_bytes(_expect(bytes, data), "little", signed=True))

    def _bytes(self, depth: int, storage: object, size: object) -> Reader:
        return self._raw(bytes, storage, size)

    def _bytearray(self, depth: int, storage: object, size: object) -> Reader:
        return self._raw(bytearray, storage, size)

    def _pickle(self, depth: int, storage: object, size: object) -> Reader:
        if self._trust is Trust.REMOTE:
            raise ProtocolError("a remote peer sent a pickle; it was not read")
        self._is_data = False
        return self._raw(load_pickle, storage, size)

    def _raw(self, convert: Callable[[Any], Any], storage: object, size: object) -> Reader:
        at = self._piece(storage, _size(size))
        return read_buffer(convert, at, _size(size)) if storage == f.INLINE else read_frame(convert, at)

    def _piece(self, storage: object, size: int) -> int:
        """Count a buffer; returns its offset in the batch's inline part, or the number of its frame."""
        if storage == f.INLINE:
            self._inline_bytes += size
            return self._inline_bytes - size
        if storage == f.FRAME:
            self._frame_bytes.append(size)
            return len(self._frame_bytes) - 1
        raise ProtocolError(f"unknown storage of a buffer {short(storage)}")


_PARSERS: dict[int, tuple[int, Callable[..., Reader]]] = {
    f.LIST: (2, _Parser._list),
    f.TUPLE: (2, _Parser._tuple),
    f.DICT: (2, _Parser._dict),
    f.ARRAY: (5, _Parser._array),
    f.OBJECTS: (3, _Parser._objects),
    f.SCALAR: (3, _Parser._scalar),
    f.NUMPY_STR: (2, _Parser._numpy_str),
    f.NUMPY_BYTES: (2, _Parser._numpy_bytes),
    f.BYTES: (3, _Parser._bytes),
    f.BYTEARRAY: (3, _Parser._bytearray),
    f.INTEGER: (2, _Parser._integer),
    f.PICKLE: (3, _Parser._pickle),
}


def _size(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ProtocolError(f"expected a size, got {short(value)}")
    return value


def _expect(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ProtocolError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def _parse_number(token: dict[Any, Any]) -> Any:
    """A NumPy scalar or complex in the form of ``msgpack-numpy``.

    The decoder of ``msgpack-numpy`` also makes arrays of any dtype and unpickles object arrays, so it gets only maps
    that were checked to be one number.
    """
    if token.keys() == {b"nd", b"type", b"data"} and token[b"nd"] is False:
        if len(_expect(bytes, token[b"data"])) != parse_number_dtype(token[b"type"]).itemsize:
            raise ProtocolError("a NumPy scalar has the wrong number of bytes")
    elif token.keys() == {b"complex", b"data"} and token[b"complex"] is True:
        if len(_expect(str, token[b"data"])) > _MAX_COMPLEX_CHARACTERS:
            raise ProtocolError("a complex number is too long")
    else:
        raise ProtocolError(f"a map of a batch header is no number: {short(token)}")
    return msgpack_numpy.decode(token)
