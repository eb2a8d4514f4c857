"""Encodes a batch into a header and buffers.

`encode_batch` asks `layouts.py` first: most batches differ from an earlier one only in the bytes of their arrays, and
take its header. Any other batch is walked node by node: each type of value is encoded here, by a method of
`_NodeEncoder`, and decoded in `parser.py`, by a method of `_Parser`. `buffers.py` then copies the buffers, or sends
them from the batch's own memory.

A new type of array needs
    format.py     a node: its number and its row in the table
    encoder.py    a method of `_NodeEncoder`, found by a row of `_ADDERS` (exact type) or by a branch of `add`
    parser.py     a method of `_Parser` and its row of `_PARSERS`, with every check of the node
    readers.py    a reader, if none there makes the value
    dtypes.py     a form of description, if the dtype is what is new: the other files then stay as they are
and the wire contract, `tests/support/batches.py`, `tests/protocol/batch/`, `tests/fuzz/samples.py`.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgpack
import msgpack_numpy
import numpy as np

from enqueuer.errors import SequenceError, safe_text, with_article
from enqueuer.memory.arena import Arena, Block
from enqueuer.protocol.batch import format as f
from enqueuer.protocol.batch.buffers import INLINE_BYTES, Piece, block_bytes, copy_to_block, gather, private_arrays
from enqueuer.protocol.batch.dtypes import describe_dtype, has_bytes, is_string_dtype
from enqueuer.protocol.batch.format import Batch, Buffer, Trust
from enqueuer.protocol.batch.layouts import Layout, known_layouts, outline_of, remember
from enqueuer.protocol.batch.pickled_values import MANY_ARRAYS, MANY_NODES, MANY_VALUES, pickle_values
from enqueuer.protocol.classes_by_value import pickle_to_return


@dataclass(slots=True)  # not frozen: that alone would double the time to make one
class EncodedBatch:
    """A batch as it travels, not to be changed. ``nbytes`` counts header, inline bytes and frames before compression.

    A frame is the batch's own memory if nothing but the batch refers to that, else a copy. With a ``block``, all frames
    are copies in the block. ``packed_sizes[i]`` is the size of frame ``i`` if it is compressed, else 0; None stands for
    a batch without compressed frames.
    """

    header: bytes
    inline: bytes
    frames: tuple[Buffer, ...]
    nbytes: int
    block: Block | None = None
    packed_sizes: tuple[int, ...] | None = None

    @property
    def sent_bytes(self) -> int:
        """The bytes for the socket if a batch in a block is sent as a reference."""
        return self.nbytes if self.block is None else len(self.header) + len(self.inline)


def encode_batch(batch: Batch, trust: Trust, arena: Arena | None = None) -> EncodedBatch:
    """Encode the batch; `BatchPlan.build` makes an equal one of the result.

    Kept exactly: None, bool, int, float, complex, str, bytes, bytearray, tuple, list, dict (order; keys are plain
    values or tuples of them), NumPy scalars, and arrays of any shape, memory order and dtype. Object arrays keep their
    shape. Tensors of torch, TensorFlow and JAX and memory-mapped arrays become plain NumPy arrays.

    Everything else (a namedtuple, an `OrderedDict`, a masked array, an object of a user's class, …) is pickled, except
    under `Trust.REMOTE`: there an `OrderedDict` or `defaultdict` becomes a dict, an `np.record` a structured scalar,
    and the rest is refused. Many plain values are pickled together, so their number is limited under `Trust.REMOTE`
    alone (`pickled_values.py`).

    Large buffers are copied into a block of the ``arena``, if it is given and has room. Otherwise an array that only
    the batch refers to is sent from its own memory, which must not be written to afterwards. A batch to which the
    caller holds more than one reference is copied: pass the one variable on, and keep no list of batches.

    Raises `SequenceError`, which names the part of the batch that cannot be carried.
    """
    references = sys.getrefcount(batch)  # first: the lists below add references to parts of the batch
    arrays: list[Piece] = []
    outline = outline_of(batch, arrays)
    layout = known_layouts.get(outline)
    if layout is None:
        arrays.clear()  # with these references each array would seem to be held by something else, too
        encoded, layout = _encode_nodes(batch, references, trust, arena)
        if outline is not None and layout is not None:
            remember(outline, layout)
        return encoded
    if layout.all_inline:
        # tobytes("A") is F order for an array that is only F-contiguous, else C order; it copies any strides.
        inline = b"".join([array.tobytes("A") for array in arrays])  # type: ignore[union-attr]
        return EncodedBatch(layout.header, inline, (), layout.nbytes)
    return _with_frames(batch, references, layout.header, arrays, layout.storages, arena)


def _encode_nodes(
    batch: Batch, references: int, trust: Trust, arena: Arena | None
) -> tuple[EncodedBatch, Layout | None]:
    """Encode node by node. The layout is None if the header also depends on the contents of an array."""
    nodes = _walk(batch, trust)
    encoded = _with_frames(batch, references, nodes.header(), nodes.pieces, nodes.storages, arena)
    if not nodes.is_regular:
        return encoded, None
    return encoded, Layout(encoded.header, tuple(nodes.storages), f.FRAME not in nodes.storages, encoded.nbytes)


class _TooManyNodesError(SequenceError):
    """The batch has more nodes, or deeper ones, than this walk may add."""


def _walk(batch: Batch, trust: Trust) -> _NodeEncoder:
    """All nodes of a batch. Where pickles are read, no number of values is too high."""
    if trust is not Trust.REMOTE:
        nodes = _NodeEncoder(trust, MANY_ARRAYS)
        try:
            nodes.add(batch, (), 0)
            return nodes
        except _TooManyNodesError:
            nodes = _NodeEncoder(trust)
            if nodes.add_as_pickle(batch, with_arrays=True):
                return nodes
    nodes = _NodeEncoder(trust)
    nodes.add(batch, (), 0)
    return nodes


def _with_frames(
    batch: Batch,
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

# A node's path in the batch: (path of the parent, key), or () for the batch itself. Used for error texts alone.
_Path: TypeAlias = tuple[Any, ...]


class _NodeEncoder:
    """Walks one batch in pre-order and collects the nodes of its header and its buffers.

    ``pieces[i]`` is a buffer and ``storages[i]`` its storage. ``is_regular``: arrays add only their dtype, shape and
    order to the header, and none of their contents. At ``max_nodes`` the walk raises _TooManyNodesError.
    """

    def __init__(self, trust: Trust, max_nodes: int = f.MAX_NODES) -> None:
        self._trust = trust
        self._max_nodes = max_nodes
        self._nodes: list[Any] = []
        self.pieces: list[Piece] = []
        self.storages: list[int] = []
        self.is_regular = True

    def header(self) -> bytes:
        # strict_types: numpy.float64 is a subclass of float and must stay one. A str may hold lone surrogates.
        packer = msgpack.Packer(default=msgpack_numpy.encode, strict_types=True, unicode_errors="surrogatepass")
        return b"".join(map(packer.pack, self._nodes))

    def add(self, value: Any, path: _Path, depth: int) -> None:
        if len(self._nodes) >= self._max_nodes:
            raise _TooManyNodesError(
                f"the batch has more than {self._max_nodes} values outside arrays (at {_name_of(path)}): "
                "make arrays of them"
            )
        kind = type(value)
        if kind in f.PLAIN_TYPES:
            self._add_plain(value)
        elif depth >= f.MAX_DEPTH:
            raise _TooManyNodesError(
                f"{_name_of(path)} is nested deeper than {f.MAX_DEPTH} levels or contains itself, "
                "and cannot be carried to the trainer"
            )
        elif (adder := _ADDERS.get(kind)) is not None:
            adder(self, value, path, depth)
        elif isinstance(value, np.generic):
            self._add_numpy_scalar(value, path)
        elif _is_tensor(kind):
            if _is_more_than_an_array(value):
                self._pickle(value, path, f"a tensor that no array holds ({_describe_tensor(value)})")
            else:
                self.add(_array_of_tensor(value, path), path, depth + 1)
        elif isinstance(value, np.memmap):
            self._add_array(np.asarray(value), path, depth)
        else:
            self._add_other(value, path, depth)

    def _add_plain(self, value: Any) -> None:
        kind = type(value)
        if kind is int and not -(1 << 63) <= value < 1 << 64:
            size = value.bit_length() // 8 + 1
            self._nodes.append([f.INTEGER, value.to_bytes(size, "little", signed=True)])
        elif kind is bytes and len(value) > INLINE_BYTES:
            self._add_buffer(f.BYTES, value)
        else:
            self._nodes.append(value)

    def _add_complex(self, value: complex, path: _Path, depth: int) -> None:
        self._nodes.append(value)

    def _add_bytearray(self, value: bytearray, path: _Path, depth: int) -> None:
        self._add_buffer(f.BYTEARRAY, value)

    def _add_buffer(self, tag: int, value: bytes | bytearray) -> None:
        self._nodes.append([tag, self._add_piece(value, len(value)), len(value)])

    def _add_piece(self, piece: Piece, nbytes: int) -> int:
        storage = f.INLINE if nbytes <= INLINE_BYTES else f.FRAME
        self.pieces.append(piece)
        self.storages.append(storage)
        return storage

    def _add_list(self, value: list[Any] | tuple[Any, ...], path: _Path, depth: int) -> None:
        if self._is_much(value) and self.add_as_pickle(value):
            return
        self._nodes.append([f.LIST if type(value) is list else f.TUPLE, len(value)])
        for number, child in enumerate(value):
            self.add(child, (path, number), depth + 1)

    def _add_dict(self, value: dict[Any, Any], path: _Path, depth: int) -> None:
        if self._is_much(value) and self.add_as_pickle(value):
            return
        refused = next((key for key in value if not _is_plain_key(key)), None)
        if refused is not None or len(value) > f.MAX_DICT_ITEMS:
            reason = f"more than {f.MAX_DICT_ITEMS} keys" if refused is None else f"the key {refused!r:.80}"
            self._pickle(value, path, f"a dict with {reason}")
            return
        self._nodes.append([f.DICT, len(value)])
        for key, child in value.items():
            self.add(key, path, depth + 1)
            self.add(child, (path, key), depth + 1)

    def _add_array(self, value: np.ndarray[Any, Any], path: _Path, depth: int) -> None:
        dtype = value.dtype
        # Zero-width strings exist only as fields: NumPy makes every new array of them one byte wide.
        if has_bytes(dtype) and (dtype.itemsize or dtype.kind not in "SU"):
            order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
            storage = self._add_piece(value, value.nbytes)
            self._nodes.append([f.ARRAY, storage, describe_dtype(dtype), list(value.shape), order])
            return
        self.is_regular = False
        if dtype.kind == "O" or is_string_dtype(dtype):
            if value.size >= MANY_VALUES and self.add_as_pickle(value):
                return
            self._nodes.append([f.OBJECTS, dtype.kind, list(value.shape)])
            for index in np.ndindex(value.shape):
                self.add(value[index], (path, index), depth + 1)
        else:
            self._pickle(value, path, f"an array of dtype {dtype}")

    def _add_numpy_scalar(self, value: np.generic, path: _Path) -> None:
        if type(value) is np.str_:
            self._nodes.append([f.NUMPY_STR, str.__str__(value)])  # str() of it drops zeros at the end
        elif type(value) is np.bytes_:
            self._nodes.append([f.NUMPY_BYTES, bytes(value)])
        elif _is_number(value):
            self._nodes.append(value)
        elif type(value) is np.record and self._trust is not Trust.REMOTE:
            self._pickle(value, path, "a record")  # a dtype's description would give a structured scalar
        elif has_bytes(value.dtype):
            storage = self._add_piece(np.array(value), value.nbytes)
            self._nodes.append([f.SCALAR, storage, describe_dtype(value.dtype)])
        else:
            self._pickle(value, path, f"a NumPy scalar of dtype {value.dtype}")

    def _add_other(self, value: Any, path: _Path, depth: int) -> None:
        if self._trust is Trust.REMOTE and type(value) in (OrderedDict, defaultdict):
            self.add(dict(value), path, depth + 1)
        else:
            self._pickle(value, path, with_article(f"{type(value).__module__}.{type(value).__qualname__}"))

    def _is_much(self, container: list[Any] | tuple[Any, ...] | dict[Any, Any]) -> bool:
        return len(container) >= MANY_VALUES or len(self._nodes) >= MANY_NODES

    def add_as_pickle(self, value: Any, *, with_arrays: bool = False) -> bool:
        """Add the value as one pickle, if the receiver reads pickles and nodes would not carry it better."""
        pickled = None
        if self._trust is not Trust.REMOTE:
            pickled = pickle_values(value, _is_tensor, with_arrays=with_arrays)
        if pickled is None:
            return False
        self._add_buffer(f.PICKLE, pickled)
        self.is_regular = False
        return True

    def _pickle(self, value: Any, path: _Path, what: str) -> None:
        if self._trust is Trust.REMOTE:
            raise SequenceError(
                f"{_name_of(path)} is {what} and cannot be carried to the trainer: "
                "a remote worker sends only arrays, tensors and plain values in tuples, lists and dicts "
                "(any object, if the trainer has keys and sets allow_pickle=True)"
            )
        try:
            pickled = pickle_to_return(value)
        except Exception as error:  # the object's own code may raise anything
            reason = f"{type(error).__name__}: {safe_text(error)}"
            raise SequenceError(
                f"{_name_of(path)} is {what} and cannot be carried to the trainer: {reason}. "
                "Return arrays, or plain values in tuples, lists and dicts"
            ) from error
        self._add_buffer(f.PICKLE, pickled)


_ADDERS: dict[type, Callable[[_NodeEncoder, Any, _Path, int], None]] = {
    list: _NodeEncoder._add_list,
    tuple: _NodeEncoder._add_list,
    dict: _NodeEncoder._add_dict,
    np.ndarray: _NodeEncoder._add_array,
    complex: _NodeEncoder._add_complex,
    bytearray: _NodeEncoder._add_bytearray,
}


def _is_plain_key(key: object) -> bool:
    """Whether a dict key fits into the header, without buffers or pickles."""
    if type(key) is tuple:
        return all(map(_is_plain_key, key))
    if type(key) is bytes:
        return len(key) <= INLINE_BYTES
    return type(key) in f.PLAIN_TYPES or type(key) in (complex, np.str_, np.bytes_) or _is_number(key)


def _is_number(value: object) -> bool:
    """Whether the value is a NumPy scalar that ``msgpack-numpy`` carries."""
    return isinstance(value, np.bool_ | np.number) and value.dtype.isbuiltin == 1 and value.dtype.kind != "m"


def _is_tensor(kind: type) -> bool:
    """Whether the type is a framework's array type or a subclass of it; imports no framework."""
    return hasattr(kind, "__array__") and any(
        str(base.__module__).partition(".")[0] in _FRAMEWORKS for base in kind.__mro__
    )


def _is_more_than_an_array(value: Any) -> bool:
    """Whether it is torch's and sparse, nested, quantized, of a subclass (such as Parameter), or has attributes."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return False
    is_strided = value.layout == torch.strided and not value.is_nested and not value.is_quantized
    return type(value) is not torch.Tensor or not is_strided or bool(value.__dict__)


def _describe_tensor(tensor: Any) -> str:
    return f"{type(tensor).__module__}.{type(tensor).__qualname__}, {tensor.layout}, {tensor.dtype}"


def _array_of_tensor(tensor: Any, path: _Path) -> np.ndarray[Any, Any]:
    try:
        # Only torch's tensors have detach(). They cannot become arrays while they need a gradient or are on a device.
        return np.asarray(tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else tensor)
    except Exception as error:
        raise SequenceError(
            f"{_name_of(path)} is {with_article(f'{type(tensor).__module__}.{type(tensor).__qualname__}')} "
            f"and cannot become a NumPy array: {safe_text(error)}"
        ) from error


def _name_of(path: _Path) -> str:
    keys: list[str] = []
    while path:
        path, key = path
        keys.append(f"[{key!r:.80}]")
    return "batch" + "".join(reversed(keys))
