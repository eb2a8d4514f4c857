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

import numpy as np

from enqueuer.adapters._frameworks import raise_for_framework

try:
    import jax
except ModuleNotFoundError as error:
    raise_for_framework(error)
    raise

from enqueuer.adapters._loops import NOT_GIVEN, EpochLoop, EpochLoops, NotGiven, StartArguments, start_arguments
from enqueuer.errors import ConfigurationError
from enqueuer.options import QueueSize
from enqueuer.stream.state import read_states

if TYPE_CHECKING:
    from enqueuer.sequence_enqueuer import SequenceEnqueuer

__all__ = ["DeviceStream", "device_iterator"]


def device_iterator(
    enqueuer: SequenceEnqueuer,
    size: int = 2,
    device: jax.Device | None = None,
    sharding: jax.sharding.Sharding | None = None,
    *,
    workers: int | NotGiven | None = NOT_GIVEN,
    max_queue_size: QueueSize | None = None,
    epoch: int | None = None,
) -> DeviceStream:
    """The enqueuer as an iterable of batches of ``jax.Array``: each ``for`` loop over it is an epoch.

    A loop that is broken off is followed by one over a new epoch, also over another loader of the same enqueuer.
    ``state_dict()`` counts the batches that the loop was given, not those ahead of it.

    Arrays of numbers are moved, in 32 bits unless JAX was told otherwise (``jax_enable_x64``); text, objects, dates and
    plain Python values stay as they are. On the CPU JAX takes over an array's memory where it can (aligned to 64 bytes)
    instead of copying it. Nothing else refers to that memory: no NumPy array is given out, and a batch computed in this
    process (by local *threads*, or by the loop itself with ``workers=0``) is copied first, since its memory may be the
    Sequence's own.

    Args:
        enqueuer: computes the batches. Given none of the arguments of ``start()`` below, it must have been started.
        size: batches on the device at once: the loop's present one, and those on their way.
        device: where the arrays go; JAX's default device if neither this nor ``sharding`` is given.
        sharding: how the arrays are divided, such as a ``NamedSharding`` over this process's devices.
        workers: as for `SequenceEnqueuer.start` (None: one a CPU). With any of these three, the first loop starts an
            enqueuer that is not running; the arguments that are missing have the defaults of ``start()``.
        max_queue_size: as for `SequenceEnqueuer.start`.
        epoch: the number of the first loop's epoch, unless a state is loaded before.

    Raises:
        ConfigurationError: a size below 1, or both a device and a sharding.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ConfigurationError(f"size must be an integer of at least 1, not {size!r}")
    if device is not None and sharding is not None:
        raise ConfigurationError("give device or sharding, not both")
    target = device if sharding is None else sharding
    return DeviceStream(enqueuer, size, target, start_arguments(workers, max_queue_size, epoch))


class DeviceStream(EpochLoops):
    """The batches of an enqueuer on a device, made by `device_iterator`.

    It has ``len()``, ``epoch``, ``state_dict()`` and ``load_state_dict()``.
    """

    def __init__(self, enqueuer: SequenceEnqueuer, size: int, target: Any, start: StartArguments) -> None:
        super().__init__(enqueuer, start=start)
        self.size = size
        self._target = target
        # The state after the batch that was handed out last, while others were taken ahead of it.
        self.handed_out: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        """One epoch. An error in a batch's place comes after all batches before it."""
        return _DeviceLoop(self)

    def state_dict(self) -> dict[str, Any]:
        """The place after the last batch that was handed out; batches ahead of the loop do not count."""
        handed_out = self.handed_out
        return self.state_of_taken() if handed_out is None else handed_out

    def state_of_taken(self) -> dict[str, Any]:
        """The place after the last batch that was taken from the enqueuer, those ahead of the loop included."""
        return super().state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Go on at this place: see `SequenceEnqueuer.load_state_dict`."""
        super().load_state_dict(state)
        self.handed_out = None

    def put(self, batch: Any) -> Any:
        """The batch with its arrays on the device, or on their way to it."""
        leaves, structure = jax.tree.flatten(batch)
        is_own = _comes_from_other_processes(self.enqueuer)
        places = [place for place, leaf in enumerate(leaves) if _is_number(leaf)]
        arrays = [_native(leaves[place], copy=not is_own) for place in places]
        for place, array in zip(places, jax.device_put(arrays, self._target), strict=True):
            leaves[place] = array
        return jax.tree.unflatten(structure, leaves)


class _DeviceLoop:
    """One epoch. The batches ahead are filled up to ``size`` before the next one is given."""

    def __init__(self, stream: DeviceStream) -> None:
        self._stream = stream
        self._batches = EpochLoop(stream)
        self._ahead: deque[tuple[Any, dict[str, Any]]] = deque()
        self._end: Exception | None = None

    def __iter__(self) -> _DeviceLoop:
        return self

    def __next__(self) -> Any:
        stream = self._stream
        if self._end is None:
            self._fill()
        if self._ahead:
            stream.check(self._batches.name)
            batch, stream.handed_out = self._ahead.popleft()
            return batch
        stream.handed_out = None
        end, self._end = self._end, StopIteration()
        assert end is not None, "an epoch that goes on has a batch ahead"
        raise end

    def _fill(self) -> None:
        stream = self._stream
        if stream.handed_out is None:
            # A Ctrl-C may come before the first batch is handed out.
            stream.handed_out = stream.state_of_taken()
        try:
            while len(self._ahead) < stream.size:
                batch = next(self._batches)
                state = stream.state_of_taken()
                self._ahead.append((_put(stream, batch, state), state))
        except StopIteration:
            self._end = StopIteration()
        except Exception as error:
            self._end = error


def _put(stream: DeviceStream, batch: Any, state: dict[str, Any]) -> Any:
    try:
        return stream.put(batch)
    except ValueError as error:
        (place,) = read_states(state)
        number = len(place.done) + len(place.taken)
        raise ValueError(f"batch number {number} of epoch {place.epoch} cannot go to its devices: {error}") from error


def _comes_from_other_processes(enqueuer: SequenceEnqueuer) -> bool:
    """Whether all batches lie in memory of their own, since no thread of this process computes any."""
    if enqueuer.workers == 0:
        # Without remote workers the loop itself computes the batches, also with use_multiprocessing.
        return enqueuer.endpoint is not None
    return enqueuer.use_multiprocessing


def _is_number(leaf: Any) -> bool:
    if not isinstance(leaf, np.ndarray | np.bool_ | np.number):
        return False
    dtype = leaf.dtype
    # isbuiltin is 2 for bfloat16 and the like. Long doubles are no numbers to JAX.
    return (dtype.kind in "biufc" and dtype.itemsize <= (16 if dtype.kind == "c" else 8)) or dtype.isbuiltin == 2


def _native(value: Any, *, copy: bool) -> Any:
    """The array in this machine's byte order, copied on request: ``device_put(may_alias=False)`` aliases NumPy arrays
    all the same (JAX 0.10).
    """
    if not value.dtype.isnative:
        return value.astype(value.dtype.newbyteorder("="))
    return value.copy() if copy else value
