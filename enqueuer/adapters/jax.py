"""JAX, with or without Flax: the enqueuer's batches on a device, the next one on its way while a step computes.

with SequenceEnqueuer(sequence, use_multiprocessing=True) as enq:
    loader = device_iterator(enq, workers=8)
    while loader.epoch < 10:
        for x, y in loader:
            state = train_step(state, x, y)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from enqueuer.adapters._stream import EpochStream, Pass
from enqueuer.errors import ConfigurationError

if TYPE_CHECKING:
    from enqueuer.sequence_enqueuer import SequenceEnqueuer

__all__ = ["DeviceStream", "device_iterator"]


def device_iterator(
    enqueuer: SequenceEnqueuer, size: int = 2, device: Any = None, sharding: Any = None, **start: Any
) -> DeviceStream:
    """The enqueuer as an iterable of batches of ``jax.Array``: each ``for`` loop over it is an epoch.

    ``size`` batches are on the device at once: the one that the loop works with, and those whose transfer has begun.
    ``device`` (a ``jax.Device``; default: JAX's) or ``sharding`` (such as a ``NamedSharding`` over this process's
    devices) says where. Arrays of numbers are moved, in 32 bits unless JAX was told otherwise (``jax_enable_x64``);
    text, objects, dates and plain Python values stay as they are.

    On the CPU JAX takes an array's memory over where it can (aligned to 64 bytes) instead of copying it. Nothing else
    refers to that memory: no NumPy array is given out, and what is computed in this process (by local *threads*, or by
    the loop itself with ``workers=0``), which may be the Sequence's own, is copied before.

    ``start`` are arguments of `SequenceEnqueuer.start` (``workers=``, ``max_queue_size=``): an enqueuer that does not
    run is then started by the first loop. A loop that is broken off is followed by one over a new epoch; for that the
    enqueuer is started again. (Give ``bind`` a fixed port: remote workers come back to it.)

    ``state_dict()`` counts what the loop was given, not what is ahead of it.

    Raises ConfigurationError for a size below 1, and for both a device and a sharding.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ConfigurationError(f"size must be an integer of at least 1, not {size!r}")
    if device is not None and sharding is not None:
        raise ConfigurationError("give device or sharding, not both")
    return DeviceStream(enqueuer, size, device if sharding is None else sharding, start)


class DeviceStream(EpochStream):
    """Made by `device_iterator`; has ``len()``, ``epoch``, ``state_dict()`` and ``load_state_dict()``."""

    def __init__(self, enqueuer: SequenceEnqueuer, size: int, target: Any, start: dict[str, Any]) -> None:
        super().__init__(enqueuer, start)
        self.size = size
        self._target = target
        # Where the stream was after the batch that was handed out last, while others were taken ahead of it.
        self.handed_out: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        """One epoch. An error in a batch's place comes after all batches before it."""
        return _DevicePass(self, Pass(self, self._enqueuer))

    def state_dict(self) -> dict[str, Any]:
        handed_out = self.handed_out
        return self.state_of_taken() if handed_out is None else handed_out

    def state_of_taken(self) -> dict[str, Any]:
        """With what is ahead."""
        return super().state_dict()

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state)
        self.handed_out = None

    def put(self, batch: Any) -> Any:
        """The batch with its arrays on the device, or on their way to it."""
        leaves, structure = jax.tree.flatten(batch)
        is_own = _comes_from_other_processes(self._enqueuer)
        places = [place for place, leaf in enumerate(leaves) if _is_number(leaf)]
        arrays = [_native(leaves[place], copy=not is_own) for place in places]
        for place, array in zip(places, jax.device_put(arrays, self._target), strict=True):
            leaves[place] = array
        return jax.tree.unflatten(structure, leaves)


class _DevicePass:
    """One epoch: what is ahead is filled up before the next batch is given."""

    def __init__(self, stream: DeviceStream, batches: Pass) -> None:
        self._stream = stream
        self._batches = batches
        self._ahead: deque[tuple[Any, dict[str, Any]]] = deque()
        self._end: Exception | None = None

    def __iter__(self) -> _DevicePass:
        return self

    def __next__(self) -> Any:
        stream = self._stream
        if self._end is None:
            self._fill()
        if self._ahead:
            stream.check(self._batches)
            batch, stream.handed_out = self._ahead.popleft()
            return batch
        stream.handed_out = None
        end, self._end = self._end, StopIteration()
        assert end is not None, "without an end something is ahead"
        raise end

    def _fill(self) -> None:
        stream = self._stream
        if stream.handed_out is None:
            # A Ctrl-C may come before anything is handed out.
            stream.handed_out = stream.state_of_taken()
        try:
            while len(self._ahead) < stream.size:
                batch = stream.put(next(self._batches))
                self._ahead.append((batch, stream.state_of_taken()))
        except StopIteration:
            self._end = StopIteration()
        except Exception as error:
            self._end = error


def _comes_from_other_processes(enqueuer: SequenceEnqueuer) -> bool:
    """Whether all batches do, and so lie in memory of their own."""
    if enqueuer.workers == 0:
        # Without remote workers the loop computes them itself, whatever use_multiprocessing says.
        return enqueuer.endpoint is not None
    return enqueuer.use_multiprocessing


def _is_number(leaf: Any) -> bool:
    if not isinstance(leaf, np.ndarray | np.bool_ | np.number):
        return False
    dtype = leaf.dtype
    # The second: bfloat16 and the like. Long doubles are no numbers to JAX.
    return (dtype.kind in "biufc" and dtype.itemsize <= (16 if dtype.kind == "c" else 8)) or dtype.isbuiltin == 2


def _native(value: Any, *, copy: bool) -> Any:
    """``device_put(may_alias=False)`` aliases NumPy arrays all the same (JAX 0.10), so it is copied here."""
    if not value.dtype.isnative:
        return value.astype(value.dtype.newbyteorder("="))
    return value.copy() if copy else value
