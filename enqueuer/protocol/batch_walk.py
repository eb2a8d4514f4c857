"""The walk through one batch that finds its header and its buffers."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import cloudpickle
import msgpack
import msgpack_numpy
import numpy as np

from enqueuer.errors import SequenceError
from enqueuer.protocol import batch_format as f
from enqueuer.protocol.batch_buffers import INLINE_BYTES, Piece
from enqueuer.protocol.batch_format import Trust
from enqueuer.protocol.dtypes import describe_dtype, has_bytes, is_string_dtype

_FRAMEWORKS = frozenset({"torch", "tensorflow", "jax", "jaxlib"})

# A node's way from the batch: (the way of its parent, key), or () at the root. Read only for an error's text.
Path = tuple[Any, ...]


class Walk:
    """One pre-order walk through one batch: collects the header's values and the buffers."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._values: list[Any] = []
        self.pieces: list[Piece] = []
        self.places: list[int] = []
        self.is_regular = True

    def header(self) -> bytes:
        # strict_types: numpy.float64 is a float to Python and must not become one. Lone surrogates are legal in a str.
        packer = msgpack.Packer(default=msgpack_numpy.encode, strict_types=True, unicode_errors="surrogatepass")
        return b"".join(map(packer.pack, self._values))

    def add(self, value: Any, path: Path, depth: int) -> None:
        if len(self._values) == f.MAX_NODES:
            raise SequenceError(
                f"the batch has more than {f.MAX_NODES} values outside arrays (at {_place(path)}): make arrays of them"
            )
        kind = type(value)
        if kind in f.PLAIN_TYPES:
            self._add_plain(value)
        elif depth >= f.MAX_DEPTH:
            raise SequenceError(
                f"{_place(path)} is nested deeper than {f.MAX_DEPTH} levels or contains itself, "
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
        place = f.INLINE if nbytes <= INLINE_BYTES else f.FRAME
        self.pieces.append(piece)
        self.places.append(place)
        return place

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
            place = self._add_piece(value, value.nbytes)
            self._values.append([f.ARRAY, place, describe_dtype(dtype), list(value.shape), order])
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
            place = self._add_piece(np.array(value), value.nbytes)
            self._values.append([f.SCALAR, place, describe_dtype(value.dtype)])
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
                f"{_place(path)} is {what} and cannot be carried to the trainer: "
                "from a remote worker come only arrays, tensors and plain values in tuples, lists and dicts "
                "(any object, where the trainer has keys and says allow_pickle=True)"
            )
        try:
            pickled = cloudpickle.dumps(value, protocol=5)
        except Exception as error:  # whatever the object's own code raises
            raise SequenceError(
                f"{_place(path)} is {what} and cannot be carried to the trainer: {type(error).__name__}: {error}"
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
            f"{_place(path)} is a {type(tensor).__module__}.{type(tensor).__qualname__} "
            f"and cannot become a NumPy array: {error}"
        ) from error


def _place(path: Path) -> str:
    keys: list[str] = []
    while path:
        path, key = path
        keys.append(f"[{key!r:.80}]")
    return "batch" + "".join(reversed(keys))
