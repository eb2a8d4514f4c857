"""A batch to a header and buffers, with a short way for the batches that differ only in their arrays' bytes."""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import cloudpickle
import msgpack
import msgpack_numpy
import numpy as np

from enqueuer.errors import SequenceError
from enqueuer.memory.arena import Arena, Block
from enqueuer.protocol.batch import format as f
from enqueuer.protocol.batch.buffers import INLINE_BYTES, Piece, block_bytes, copy_to_block, gather, private_arrays
from enqueuer.protocol.batch.dtypes import describe_dtype, has_bytes, is_string_dtype
from enqueuer.protocol.batch.format import Buffer, Trust

_MAX_LAYOUTS = 256
_MAX_LAYOUT_ARRAYS = 64
_MAX_LAYOUT_DEPTH = 8


@dataclass(slots=True)  # not frozen: that alone would double the time to make one
class EncodedBatch:
    """A batch as it travels; nobody changes it. ``nbytes`` is all of it together.

    A frame is the batch's own memory where nothing but the batch refers to that, and a copy where something does. With
    a ``block``, the frames are copies in that. ``packed_sizes[i]`` is the size of frame ``i`` if it is compressed,
    else 0; None if none is.
    """

    header: bytes
    inline: bytes
    frames: tuple[Buffer, ...]
    nbytes: int
    block: Block | None = None
    packed_sizes: tuple[int, ...] | None = None

    @property
    def sent_bytes(self) -> int:
        """What goes through a socket where the block is only named."""
        return self.nbytes if self.block is None else len(self.header) + len(self.inline)


@dataclass(frozen=True, slots=True)
class Layout:
    """What all batches of one structure share: arrays only, nothing but their bytes differs."""

    header: bytes
    storages: tuple[int, ...]
    all_inline: bool
    nbytes: int


class _IrregularError(Exception):
    """A batch holds more than plain arrays in tuples, lists and dicts, so its header is its own."""


# Threads may encode at the same time: at worst both find the same layout, or one is found again.
_layouts: dict[Hashable, Layout] = {}


def encode_batch(batch: object, trust: Trust, arena: Arena | None = None) -> EncodedBatch:
    """The batch's header and buffers. What `BatchPlan.build` makes of them equals the batch.

    Kept exactly: None, bool, int, float, complex, str, bytes, bytearray, tuple, list, dict (order; keys are plain
    values or tuples of them), NumPy scalars, and arrays of any shape, memory order and dtype. Object arrays keep their
    shape. Tensors of torch, TensorFlow and JAX and memory-mapped arrays become plain NumPy arrays.

    Everything else (a namedtuple, an `OrderedDict`, a masked array, an object of a user's class, …) is pickled under
    `Trust.LOCAL`. Under `Trust.REMOTE` an `OrderedDict` or `defaultdict` becomes a dict, and the rest is refused.

    Large buffers are copied into a block of the ``arena``, where there is one and it has room. Else those of arrays
    that nothing but the batch refers to are not copied, so what is encoded must not be written to; more than one
    reference of the caller's own to the batch makes it a copy: pass the variable on, do not collect them.

    Raises `SequenceError`, which names the place in the batch, for what cannot be carried.
    """
    references = sys.getrefcount(batch)  # before the lists below count as others that have it
    arrays: list[Piece] = []
    outline = _outline_or_none(batch, arrays)
    layout = _layouts.get(outline)
    if layout is None:
        arrays.clear()  # these references would make each array look like somebody else's, too
        encoded, layout = _encode_walking(batch, references, trust, arena)
        if outline is not None and layout is not None:
            if len(_layouts) >= _MAX_LAYOUTS:
                _layouts.clear()
            _layouts[outline] = layout
        return encoded
    if layout.all_inline:
        # tobytes("A") is F order for an array that is only F-contiguous, else C order; it copies any strides.
        inline = b"".join([array.tobytes("A") for array in arrays])  # type: ignore[union-attr]
        return EncodedBatch(layout.header, inline, (), layout.nbytes)
    return _with_frames(batch, references, layout.header, arrays, layout.storages, arena)


def regular_layout(batch: object) -> tuple[Layout, list[np.ndarray[Any, Any]]] | None:
    """What a batch has in common with others, and its arrays; None unless it is plain arrays and was encoded lately."""
    arrays: list[Any] = []
    layout = _layouts.get(_outline_or_none(batch, arrays))
    return None if layout is None else (layout, arrays)


def _outline_or_none(batch: object, arrays: list[Piece]) -> Hashable:
    parts: list[Any] = []
    try:
        _outline(batch, parts, arrays, 0)
    except _IrregularError:
        return None
    return tuple(parts)


def _outline(value: Any, parts: list[Any], arrays: list[Piece], depth: int) -> None:
    """Adds what decides the header of a batch that is nothing but arrays in containers; collects the arrays."""
    kind = type(value)
    if kind is np.ndarray:
        arrays.append(value)
        parts += (value.dtype, value.shape, value.strides)
        return
    if depth > _MAX_LAYOUT_DEPTH or len(arrays) > _MAX_LAYOUT_ARRAYS:
        raise _IrregularError
    if kind is tuple or kind is list:
        parts += (kind, len(value))
        for child in value:
            _outline(child, parts, arrays, depth + 1)
    elif kind is dict:
        parts += (kind, len(value))
        for key, child in value.items():
            if type(key) is not str:  # 1, True and 1.0 are one key here and three in a header
                raise _IrregularError
            parts.append(key)
            _outline(child, parts, arrays, depth + 1)
    else:
        raise _IrregularError


def _encode_walking(
    batch: object, references: int, trust: Trust, arena: Arena | None
) -> tuple[EncodedBatch, Layout | None]:
    """Encode node by node; also the layout, if another batch of this outline would have the same one."""
    walk = Walk(trust)
    walk.add(batch, (), 0)
    encoded = _with_frames(batch, references, walk.header(), walk.pieces, walk.storages, arena)
    if not walk.is_regular:
        return encoded, None
    return encoded, Layout(encoded.header, tuple(walk.storages), f.FRAME not in walk.storages, encoded.nbytes)


def _with_frames(
    batch: object,
    references: int,
    header: bytes,
    pieces: Sequence[Piece],
    storages: Sequence[int],
    arena: Arena | None,
) -> EncodedBatch:
    block = arena.take(block_bytes(pieces, storages)) if arena is not None and f.FRAME in storages else None
    if block is not None:
        inline, frames = copy_to_block(pieces, storages, block)
    else:
        private = private_arrays(batch, references, pieces) if f.FRAME in storages else set()
        inline, frames = gather(pieces, storages, private)
    nbytes = len(header) + len(inline) + sum(len(frame) for frame in frames)
    return EncodedBatch(header, inline, frames, nbytes, block)


_FRAMEWORKS = frozenset({"torch", "tensorflow", "jax", "jaxlib"})

# A node's way from the batch: (the way of its parent, key), or () at the root. Read only for an error's text.
Path = tuple[Any, ...]


class Walk:
    """One pre-order walk through one batch: collects the header's values and the buffers."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._values: list[Any] = []
        self.pieces: list[Piece] = []
        self.storages: list[int] = []
        self.is_regular = True

    def header(self) -> bytes:
        # strict_types: numpy.float64 is a float to Python and must not become one. Lone surrogates are legal in a str.
        packer = msgpack.Packer(default=msgpack_numpy.encode, strict_types=True, unicode_errors="surrogatepass")
        return b"".join(map(packer.pack, self._values))

    def add(self, value: Any, path: Path, depth: int) -> None:
        if len(self._values) == f.MAX_NODES:
            raise SequenceError(
                f"the batch has more than {f.MAX_NODES} values outside arrays (at {_name_of(path)}): "
                "make arrays of them"
            )
        kind = type(value)
        if kind in f.PLAIN_TYPES:
            self._add_plain(value)
        elif depth >= f.MAX_DEPTH:
            raise SequenceError(
                f"{_name_of(path)} is nested deeper than {f.MAX_DEPTH} levels or contains itself, "
                "and cannot be carried to the trainer"
            )
        elif (adder := _ADDERS.get(kind)) is not None:
            adder(self, value, path, depth)
        elif isinstance(value, np.generic):
            self._add_numpy_scalar(value, path)
        elif _is_tensor(kind):
            self.add(_array_of_tensor(value, path), path, depth + 1)
        elif isinstance(value, np.memmap):
            self._add_array(np.asarray(value), path, depth)
        else:
            self._add_other(value, path, depth)

    def _add_plain(self, value: Any) -> None:
        kind = type(value)
        if kind is int and not -(1 << 63) <= value < 1 << 64:
            size = value.bit_length() // 8 + 1
            self._values.append([f.INTEGER, value.to_bytes(size, "little", signed=True)])
        elif kind is bytes and len(value) > INLINE_BYTES:
            self._add_buffer(f.BYTES, value)
        else:
            self._values.append(value)

    def _add_complex(self, value: complex, path: Path, depth: int) -> None:
        self._values.append(value)

    def _add_bytearray(self, value: bytearray, path: Path, depth: int) -> None:
        self._add_buffer(f.BYTEARRAY, value)

    def _add_buffer(self, tag: int, value: bytes | bytearray) -> None:
        self._values.append([tag, self._add_piece(value, len(value)), len(value)])

    def _add_piece(self, piece: Piece, nbytes: int) -> int:
        storage = f.INLINE if nbytes <= INLINE_BYTES else f.FRAME
        self.pieces.append(piece)
        self.storages.append(storage)
        return storage

    def _add_list(self, value: list[Any] | tuple[Any, ...], path: Path, depth: int) -> None:
        self._values.append([f.LIST if type(value) is list else f.TUPLE, len(value)])
        for number, child in enumerate(value):
            self.add(child, (path, number), depth + 1)

    def _add_dict(self, value: dict[Any, Any], path: Path, depth: int) -> None:
        strange = next((key for key in value if not _is_plain_key(key)), None)
        if strange is not None or len(value) > f.MAX_DICT_ITEMS:
            reason = f"more than {f.MAX_DICT_ITEMS} keys" if strange is None else f"the key {strange!r:.80}"
            self._pickle(value, path, f"a dict with {reason}")
            return
        self._values.append([f.DICT, len(value)])
        for key, child in value.items():
            self.add(key, path, depth + 1)
            self.add(child, (path, key), depth + 1)

    def _add_array(self, value: np.ndarray[Any, Any], path: Path, depth: int) -> None:
        dtype = value.dtype
        # A zero-width string is a field's speciality: NumPy makes every new array of it one byte wide.
        if has_bytes(dtype) and (dtype.itemsize or dtype.kind not in "SU"):
            order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
            storage = self._add_piece(value, value.nbytes)
            self._values.append([f.ARRAY, storage, describe_dtype(dtype), list(value.shape), order])
            return
        self.is_regular = False
        if dtype.kind == "O" or is_string_dtype(dtype):
            self._values.append([f.OBJECTS, dtype.kind, list(value.shape)])
            for index in np.ndindex(value.shape):
                self.add(value[index], (path, index), depth + 1)
        else:
            self._pickle(value, path, f"an array of dtype {dtype}")

    def _add_numpy_scalar(self, value: np.generic, path: Path) -> None:
        if type(value) is np.str_:
            self._values.append([f.NUMPY_STR, str.__str__(value)])  # its own drops zeros at the end
        elif type(value) is np.bytes_:
            self._values.append([f.NUMPY_BYTES, bytes(value)])
        elif _is_number(value):
            self._values.append(value)
        elif has_bytes(value.dtype):
            storage = self._add_piece(np.array(value), value.nbytes)
            self._values.append([f.SCALAR, storage, describe_dtype(value.dtype)])
        else:
            self._pickle(value, path, f"a NumPy scalar of dtype {value.dtype}")

    def _add_other(self, value: Any, path: Path, depth: int) -> None:
        if self._trust is Trust.REMOTE and type(value) in (OrderedDict, defaultdict):
            self.add(dict(value), path, depth + 1)
        else:
            self._pickle(value, path, f"a {type(value).__module__}.{type(value).__qualname__}")

    def _pickle(self, value: Any, path: Path, what: str) -> None:
        if self._trust is Trust.REMOTE:
            raise SequenceError(
                f"{_name_of(path)} is {what} and cannot be carried to the trainer: "
                "from a remote worker come only arrays, tensors and plain values in tuples, lists and dicts "
                "(any object, where the trainer has keys and says allow_pickle=True)"
            )
        try:
            pickled = cloudpickle.dumps(value, protocol=5)
        except Exception as error:  # whatever the object's own code raises
            raise SequenceError(
                f"{_name_of(path)} is {what} and cannot be carried to the trainer: {type(error).__name__}: {error}"
            ) from error
        self._add_buffer(f.PICKLE, pickled)


_ADDERS: dict[type, Callable[[Walk, Any, Path, int], None]] = {
    list: Walk._add_list,
    tuple: Walk._add_list,
    dict: Walk._add_dict,
    np.ndarray: Walk._add_array,
    complex: Walk._add_complex,
    bytearray: Walk._add_bytearray,
}


def _is_plain_key(key: object) -> bool:
    """Whether the header alone can hold it."""
    if type(key) is tuple:
        return all(map(_is_plain_key, key))
    if type(key) is bytes:
        return len(key) <= INLINE_BYTES
    return type(key) in f.PLAIN_TYPES or type(key) in (complex, np.str_, np.bytes_) or _is_number(key)


def _is_number(value: object) -> bool:
    """Whether ``msgpack-numpy`` carries this NumPy scalar."""
    return isinstance(value, np.bool_ | np.number) and value.dtype.isbuiltin == 1 and value.dtype.kind != "m"


def _is_tensor(kind: type) -> bool:
    """Whether this is a framework's array type or a subclass, without importing any framework."""
    return hasattr(kind, "__array__") and any(
        str(base.__module__).partition(".")[0] in _FRAMEWORKS for base in kind.__mro__
    )


def _array_of_tensor(tensor: Any, path: Path) -> np.ndarray[Any, Any]:
    try:
        # Only torch's tensors have detach(); they refuse to be arrays while they need a gradient or are on a device.
        return np.asarray(tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else tensor)
    except Exception as error:
        raise SequenceError(
            f"{_name_of(path)} is a {type(tensor).__module__}.{type(tensor).__qualname__} "
            f"and cannot become a NumPy array: {error}"
        ) from error


def _name_of(path: Path) -> str:
    keys: list[str] = []
    while path:
        path, key = path
        keys.append(f"[{key!r:.80}]")
    return "batch" + "".join(reversed(keys))
