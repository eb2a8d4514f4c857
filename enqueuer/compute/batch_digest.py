"""The digest of a batch, by which batches of one index are compared that were computed twice.

    digest_batch((x, {"ids": ids}))  ►  {"batch": (…, …), "batch[0]": (…, …), "batch[1]": …, "batch[1]['ids']": …}

Each field has two digests. The first one is exact: structure, dtypes, shapes, integers of 32 bits or more, texts,
dates. The second one covers the rest: floats, flags, bytes, and small integers such as those of images and sounds,
which another processor or decoder may round otherwise. An object of another class is opaque: None, and equal to all.

The work is bounded: `_MOST_FIELDS` fields and `_MOST_BYTES` bytes of a batch, the same ones on both sides.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any

import numpy as np

from enqueuer.protocol.batch import Opaque, StandIn, code_left_out

# The exact digest and the other one of each field, by its name; None for a field that cannot be looked into.
BatchDigest = dict[str, tuple[bytes, bytes] | None]

_MOST_FIELDS = 4096
# Reading them takes 6 ms.
_MOST_BYTES = 4 * 1024 * 1024
_DEPTH_LIMIT = 16
_NAME_CHARACTERS = 60
_EXACT_INTEGER_BYTES = 4
# As `enqueuer.core.digests.OBJECT`.
_OBJECT = b"object"
_FRAMEWORKS = frozenset({"torch", "tensorflow", "jax", "jaxlib"})


def digest_payload(payload: Any) -> BatchDigest | None:
    """The digest of a received batch; None if it cannot be looked into. Runs no code of pickles in it."""
    try:
        with code_left_out():
            return digest_batch(payload.build())
    except Exception:  # the batch may hold objects of any class, from the trainer's own threads
        return None


def digest_batch(batch: Any) -> BatchDigest:
    """The digest of a batch as ``__getitem__`` returned it, or as it was built from what came."""
    walk = _Walk()
    walk.add("batch", batch, 0)
    return walk.fields


class _Walk:
    def __init__(self) -> None:
        self.fields: BatchDigest = {}
        self._bytes_left = _MOST_BYTES

    def add(self, name: str, value: Any, depth: int) -> None:
        if len(self.fields) >= _MOST_FIELDS:
            return
        kind = type(value)
        if value is None or kind in (int, str):
            self._put(name, f"{kind.__name__} {value!r}", b"")
        elif kind in (bool, float, complex):
            self._put(name, kind.__name__, repr(value).encode())
        elif kind in (bytes, bytearray, memoryview):
            self._put(name, f"{kind.__name__} {len(value)}", self._cut(value))
        elif isinstance(value, np.ndarray | np.generic):
            self._add_array(name, np.asarray(value), depth)
        elif depth >= _DEPTH_LIMIT or isinstance(value, Opaque):
            self.fields[name] = None
        else:
            self._add_container(name, value, kind, depth)

    def _add_container(self, name: str, value: Any, kind: type, depth: int) -> None:
        if kind in (dict, OrderedDict, defaultdict):
            # A remote worker sends each of them as a dict. In the order of the keys' names: some come out of a set.
            parts = sorted(((_shown(key), part) for key, part in _items(value)), key=itemgetter(0))
            self._add_parts(name, f"dict {len(value)}", parts, depth)
        elif kind in (list, tuple, deque):
            parts = [(str(number), part) for number, part in enumerate(itertools.islice(value, _MOST_FIELDS))]
            self._add_parts(name, f"{kind.__name__} {len(value)}", parts, depth)
        elif kind in (set, frozenset):
            self._put(name, f"{kind.__name__} {sorted(map(repr, value))}", b"")
        elif kind is StandIn:
            self.fields[name] = (_OBJECT, b"")
            for number, part in enumerate(value.parts):
                self.add(f"{name}[part {number}]", part, depth + 1)
        else:
            array = _array_of_tensor(value)
            if array is None:
                self.fields[name] = None
            else:
                self._add_array(name, array, depth)

    def _add_parts(self, name: str, structure: str, parts: Iterable[tuple[str, Any]], depth: int) -> None:
        self._put(name, structure, b"")
        for key, part in itertools.islice(parts, _MOST_FIELDS):
            self.add(f"{name}[{key}]", part, depth + 1)

    def _add_array(self, name: str, array: np.ndarray[Any, Any], depth: int) -> None:
        dtype = array.dtype
        structure = f"array {dtype.kind}{dtype.itemsize} {array.shape}"
        if dtype.names is not None:
            self._add_parts(name, structure, ((repr(field), array[field]) for field in dtype.names), depth)
        elif dtype.kind in "OT":
            parts = ((str(number), part) for number, part in enumerate(array.flat))
            self._add_parts(name, f"array {dtype.kind} {array.shape}", parts, depth)
        else:
            exact = dtype.kind in "USMm" or (dtype.kind in "iu" and dtype.itemsize >= _EXACT_INTEGER_BYTES)
            content = self._cut(_first_bytes(array, self._bytes_left))
            if exact:
                self._put(name, structure, b"", content)
            else:
                self._put(name, structure, content)

    def _cut(self, content: Any) -> memoryview:
        cut = memoryview(content)[: self._bytes_left]
        self._bytes_left -= len(cut)
        return cut

    def _put(self, name: str, structure: str, rest: Any, exact: Any = b"") -> None:
        self.fields[name] = (_hash(structure.encode(errors="surrogatepass"), exact), _hash(rest))


def _hash(*contents: Any) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for content in contents:
        digest.update(content)
    return digest.digest()


def _first_bytes(array: np.ndarray[Any, Any], most: int) -> memoryview:
    """The array's first elements in C order and this machine's byte order, as bytes."""
    count = -(-most // max(1, array.itemsize))
    flat = array.reshape(-1)[:count] if array.flags.c_contiguous else array.flat[:count]
    plain = np.ascontiguousarray(flat, dtype=array.dtype.newbyteorder("="))
    return plain.view(np.uint8).data if plain.size and plain.itemsize else memoryview(b"")


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    return itertools.islice(value.items(), _MOST_FIELDS)


def _shown(key: Any) -> str:
    return f"{key!r:.{_NAME_CHARACTERS}}" if type(key) in (str, int, tuple, bytes, float, bool) else type(key).__name__


def _array_of_tensor(value: Any) -> np.ndarray[Any, Any] | None:
    """The array of a framework's tensor in this machine's memory; None for any other object."""
    kind = type(value)
    if not hasattr(kind, "__array__") or str(kind.__module__).partition(".")[0] not in _FRAMEWORKS:
        return None
    if hasattr(value, "detach"):
        return np.asarray(value.detach()) if value.device.type == "cpu" else None
    return np.asarray(value)
