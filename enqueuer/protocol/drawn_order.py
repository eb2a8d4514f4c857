"""The drawn order of an epoch: the keys of each batch, drawn once in the trainer and sent to all workers.

    trainer   the Sequence's `draw` ──► DrawnOrder ──► to_parts ──┬──► a shared segment   ``order_path``, local workers
                                                                  └──► in the message     ``order_parts``, all others
    worker    order_of(state) ──► DrawnOrder ──► the Sequence's `follow`

Keys that are all integers are stored as one array, four bytes each for most datasets, and a reader maps it. Any other
keys travel as a batch does. A worker on another host reads no pickle, so its keys are plain values.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from enqueuer.errors import ConfigurationError, EnqueuerError, ProtocolError
from enqueuer.memory.segment import map_segment, read_parts
from enqueuer.protocol.batch import Trust, encode_batch, parse_batch

_PATH = "order_path"
_PARTS = "order_parts"
# A control message has 16 MiB at most.
CARRIED_LIMIT_BYTES = 15 * 1024 * 1024
_LEAST_PARTS = 2
_DIGEST_BYTES = 16


class DrawnOrder:
    """The keys of each batch of one epoch; ``len()`` is the number of batches.

    Either ``keys`` are integers, and ``ends[i]`` is the end of batch ``i`` in them; or ``batches`` are lists of keys.
    """

    def __init__(
        self, keys: np.ndarray[Any, Any] | None, ends: np.ndarray[Any, Any] | None, batches: list[list[Any]] | None
    ) -> None:
        self._keys = keys
        self._ends = ends
        self._batches = batches
        self._digest = ""

    @classmethod
    def of(cls, batches: Iterable[Iterable[Any]]) -> DrawnOrder:
        """The order with these batches. Integers of NumPy and torch count as Python's."""
        lists = [[_plain_key(key) for key in batch] for batch in batches]
        if not all(type(key) is int and -(2**63) <= key < 2**63 for key in chain.from_iterable(lists)):
            return cls(None, None, lists)
        keys = np.fromiter(chain.from_iterable(lists), np.int64)
        if keys.size and keys.min() >= 0 and keys.max() < 2**32:
            keys = keys.astype(np.uint32)
        return cls(keys, np.cumsum([len(batch) for batch in lists], dtype=np.int64), None)

    def __len__(self) -> int:
        return len(self._ends if self._batches is None else self._batches)  # type: ignore[arg-type]

    def batch(self, index: int) -> list[Any]:
        """The keys of this batch. Raises IndexError if there is none."""
        if self._batches is not None:
            return list(self._batches[index])
        assert self._keys is not None and self._ends is not None
        index = range(len(self._ends))[index]
        keys: list[Any] = self._keys[self._ends[index - 1] if index else 0 : self._ends[index]].tolist()
        return keys

    @property
    def digest(self) -> str:
        """A digest of all keys, in order; equal for equal orders in every process."""
        if not self._digest:
            hashed = hashlib.blake2b(digest_size=_DIGEST_BYTES)
            if self._batches is None:
                assert self._keys is not None and self._ends is not None
                hashed.update(self._keys.astype("<i8").tobytes())
                hashed.update(self._ends.astype("<i8").tobytes())
            else:
                hashed.update(repr(self._batches).encode(errors="surrogatepass"))
            self._digest = hashed.hexdigest()
        return self._digest

    def to_parts(self, trust: Trust) -> list[bytes | memoryview]:
        """The order as bytes for workers that trust this trainer so far.

        Raises ConfigurationError for keys that cannot travel.
        """
        value: Any = self._batches if self._batches is not None else (self._keys, self._ends)
        try:
            encoded = encode_batch(value, trust)
        except EnqueuerError as error:
            raise ConfigurationError(f"the keys that the sampler gives cannot be sent to workers: {error}") from error
        return [encoded.header, encoded.inline, *(memoryview(frame).cast("B") for frame in encoded.frames)]

    @classmethod
    def from_parts(cls, parts: Sequence[Any], trust: Trust) -> DrawnOrder:
        """The order in these parts. Raises ProtocolError if they hold none."""
        header, inline, *frames = parts
        plan = parse_batch(bytes(header), trust)
        if len(inline) != plan.inline_bytes or [len(frame) for frame in frames] != list(plan.frame_bytes):
            raise ProtocolError("the parts of an epoch's order are not as long as they say")
        match plan.build(inline, frames):
            case (np.ndarray() as keys, np.ndarray() as ends) if _are_valid(keys, ends):
                return cls(keys, ends, None)
            case list() as batches if all(isinstance(batch, list) for batch in batches):
                return cls(None, None, batches)
        raise ProtocolError("an epoch's order is neither two arrays nor a list of lists")


def _plain_key(key: Any) -> Any:
    if type(key) is int or isinstance(key, bool | str | bytes | tuple):
        return key
    if getattr(key, "ndim", None) == 0 and hasattr(key, "__index__"):
        try:
            return operator.index(key)
        except TypeError:
            return key
    return key


def _are_valid(keys: np.ndarray[Any, Any], ends: np.ndarray[Any, Any]) -> bool:
    if keys.ndim != 1 or ends.ndim != 1 or keys.dtype.kind not in "iu" or ends.dtype.kind != "i":
        return False
    return bool(not ends.size or (ends[0] >= 0 and ends[-1] == keys.size and (np.diff(ends) >= 0).all()))


def named_order(path: str) -> dict[str, Any]:
    """The entries of an ``Epoch.state`` for an order in the shared segment at ``path``."""
    return {_PATH: path}


def carried_order(parts: Sequence[bytes | memoryview]) -> dict[str, Any]:
    """The entries of an ``Epoch.state`` that hold the order itself. Raises ConfigurationError if it is too large."""
    nbytes = sum(len(part) for part in parts)
    if nbytes > CARRIED_LIMIT_BYTES:
        raise ConfigurationError(
            f"the sampler's order of this epoch has {nbytes / 1e6:.0f} MB, and workers on other hosts get up to "
            f"{CARRIED_LIMIT_BYTES / 1e6:.0f} MB of it: use shuffle=True of from_dataset, which sends nothing, or "
            "local workers"
        )
    return {_PARTS: [bytes(part) for part in parts]}


def order_path(state: Any) -> str | None:
    """The path of the segment in which a state's order lies, or None."""
    path = state.get(_PATH) if isinstance(state, dict) else None
    return path if isinstance(path, str) else None


def read_named_order(path: str) -> DrawnOrder:
    """The order in a shared segment of this worker's own trainer."""
    return DrawnOrder.from_parts(read_parts(map_segment(path)), Trust.LOCAL)


def read_carried_order(state: Any) -> DrawnOrder | None:
    """The order that a state holds, or None. Raises ProtocolError for one that is malformed."""
    parts = state.get(_PARTS) if isinstance(state, dict) else None
    if parts is None:
        return None
    if not isinstance(parts, list) or len(parts) < _LEAST_PARTS or not all(type(part) is bytes for part in parts):
        raise ProtocolError("the order of an epoch has no valid parts")
    return DrawnOrder.from_parts(parts, Trust.REMOTE)
