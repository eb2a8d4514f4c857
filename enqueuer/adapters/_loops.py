"""Training loops over the enqueuer's one endless stream, each with passes of its own.

A loop is named by an object. Its first request begins a pass, which starts where the pass before it ended:

    pass before          epoch so far     next pass
    over                 ########|        has the next epoch
    left early           ##______|        repeats the kept batches and goes on: nothing is lost or computed twice
    left later           #####___|        has the next epoch: the rest of this one is dropped

Frameworks count in two ways:

- Keras and tf.data (``counted``) ask for ``len()`` batches, look at a few before they train, and let callbacks change
  the Sequence between epochs. A pass has ``len()`` batches; if an epoch delivers fewer (None, skipped errors), the next
  one fills the pass up. The first batches are kept, and epochs open on demand.
- PyTorch and JAX iterate. A pass ends with its epoch, wherever in the epoch it began, and no batch is kept.
"""

from __future__ import annotations

import threading
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypedDict

from enqueuer.options import QueueSize
from enqueuer.runtime.iteration import StreamEnd
from enqueuer.stream.state import read_states

if TYPE_CHECKING:
    from enqueuer.runtime.epoch_view import EpochView
    from enqueuer.sequence_enqueuer import SequenceEnqueuer

# Frameworks look at a few batches before they train (shapes, types, building the model) and then want them again.
# Keras 3 on TensorFlow looks at the most: two for the types, and a prefetched few for the build.
KEPT_COUNT = 8
# This many replaced loops are remembered: a prefetching thread of theirs may still ask.
_PAST_COUNT = 8


class NotGiven(Enum):
    """The type of `NOT_GIVEN`."""

    NOT_GIVEN = "not given"


# The default of ``workers=``, where None already means one worker a CPU.
NOT_GIVEN: Final = NotGiven.NOT_GIVEN


class StartArguments(TypedDict, total=False):
    """Arguments of `SequenceEnqueuer.start`."""

    workers: int | None
    max_queue_size: QueueSize
    epoch: int | None


def start_arguments(
    workers: int | NotGiven | None, max_queue_size: QueueSize | None, epoch: int | None
) -> StartArguments:
    """The given ones: ``workers`` unless it is `NOT_GIVEN`, the others unless they are None."""
    given = StartArguments()
    if workers is not NOT_GIVEN:
        given["workers"] = workers
    if max_queue_size is not None:
        given["max_queue_size"] = max_queue_size
    if epoch is not None:
        given["epoch"] = epoch
    return given


class EpochLoops:
    """Gives each loop its passes over the enqueuer's stream.

    ``counted``: a pass has ``len(enqueuer)`` batches; otherwise it ends with its epoch.
    With ``start`` arguments a loop starts an enqueuer that is not running, the first one at their ``epoch`` (unless a
    state is loaded before). Without them the enqueuer must be running.
    """

    def __init__(self, enqueuer: SequenceEnqueuer, *, counted: bool = False, start: StartArguments | None = None):
        self.enqueuer = enqueuer
        self._counted = counted
        self._start = StartArguments(**(start or {}))
        self._may_start = bool(start)
        # Reentrant: a signal handler or the Sequence itself may ask for a batch while this thread waits for one.
        self._lock = threading.RLock()
        self._view: EpochView | None = None
        self._loop: object | None = None
        self._past_loops: deque[object] = deque(maxlen=_PAST_COUNT)
        # The present pass: its epoch or its length, batches taken from the stream, batches given to the loop, and the
        # first batches.
        self._epoch = -1
        self._length = self._taken = self._given = 0
        self._kept: list[Any] = []
        self._is_broken_off = False

    # ------------------------------------------------------------ the place in the stream

    def __len__(self) -> int:
        """Batches in one epoch."""
        return len(self.enqueuer)

    @property
    def epoch(self) -> int:
        """The epoch of the next batch. ``while loader.epoch < 10:`` trains ten epochs, however often it is resumed."""
        (state,) = read_states(self.state_dict())
        return state.epoch + state.epoch_is_over

    def state_dict(self) -> dict[str, Any]:
        """The place after the last batch that was handed out, as `SequenceEnqueuer.state_dict` gives it."""
        return self.enqueuer.state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Go on at this place, as `SequenceEnqueuer.load_state_dict` does. A loader with arguments of ``start()`` stops
        a running enqueuer first, and its next loop starts it again.

        Raises StateError if the state does not fit, RuntimeError if the enqueuer is running and may not be stopped.
        """
        if self._may_start:
            self.enqueuer.stop()
        self.enqueuer.load_state_dict(state)
        self._start.pop("epoch", None)
        self._loop = None

    # ------------------------------------------------------------ loops

    def next_batch(self, loop: object | None) -> Any:
        """The next batch of this loop's pass. Waits for it, and raises its errors, as ``next(enqueuer.get())`` does.

        ``loop`` is any object that names the loop, the same one each time. None is a look at the first batches, which
        uses none of them up.

        Raises RuntimeError if the enqueuer is not running or another loop has begun a pass meanwhile, and StreamEnd
        after the epoch or the session. A counted loop goes on with the next epoch instead, and gets a RuntimeError for
        a stop in the middle of a pass: frameworks take an ordinary end for that of the epoch.
        """
        # A second thread waits until the first has its batch, since its own pass may begin with that batch.
        with self._lock:
            if self._counted or loop is not self._loop:
                self._attend(loop)
            batch = self._take() if self._given == self._taken else self._kept[self._given]
            self._given += 1
            return batch

    def check(self, loop: object) -> None:
        """Raise RuntimeError unless this loop was the last one to ask for a batch."""
        if loop is not self._loop:
            raise RuntimeError("another loop over the same enqueuer has begun: two cannot share its stream in passes")

    def break_off(self) -> None:
        """The present loop asks no more: the rest of its pass, however short it was, is dropped."""
        with self._lock:
            self._is_broken_off = 0 < self._taken < self._length

    def _attend(self, loop: object | None) -> None:
        """Serve this loop from now on: begin a pass if it is new, or if it counts and its pass is over."""
        is_new = loop is not self._loop
        if is_new and any(loop is past for past in self._past_loops):
            self.check(loop)
        if self._view is None or not self._view.is_current():
            self._enter_session()
            self._begin_pass()
        elif is_new:
            # A look uses nothing up, even one at the whole of a short epoch.
            is_over = self._loop is not None and self._is_over()
            is_left = self._is_broken_off or self._taken > len(self._kept)
            if is_left and not is_over:
                self._end_epoch_early()
            if is_left or is_over:
                self._begin_pass()
            self._given = 0
        elif self._is_over():
            self._begin_pass()
        if is_new and self._loop is not None:
            self._past_loops.append(self._loop)
        self._loop = loop

    def _is_over(self) -> bool:
        assert self._view is not None
        return self._given == self._length if self._counted else self._view.next_epoch != self._epoch

    def _begin_pass(self) -> None:
        assert self._view is not None
        if self._counted:
            self._length = max(1, len(self.enqueuer))
        else:
            self._epoch = self._view.next_epoch
        self._taken = self._given = 0
        self._kept = []
        self._is_broken_off = False

    def _take(self) -> Any:
        assert self._view is not None
        try:
            batch = self._view.next_batch(None if self._counted else self._epoch)
        except StreamEnd:
            if self._counted:
                raise RuntimeError("the enqueuer was stopped in the middle of a pass") from None
            raise
        if self._counted and self._taken < KEPT_COUNT:
            self._kept.append(batch)
        elif self._kept:
            self._kept = []
        self._taken += 1
        return batch

    # ------------------------------------------------------------ sessions

    def _enter_session(self) -> None:
        """Turn to the running session; start one first if none runs and arguments for it were given."""
        view = self.enqueuer._epoch_view()
        if view is None and self._may_start:
            self.enqueuer.start(**self._start)
            view = self.enqueuer._epoch_view()
        if view is None:
            instead = "before you train, predict or iterate" if self._counted else "first, or give workers= here"
            raise RuntimeError(f"the enqueuer is not running: call its start(workers=…) {instead}")
        # Only the first loop begins at that epoch.
        self._start.pop("epoch", None)
        if self._counted:
            view.open_epochs_on_demand()
        self._view = view

    def _end_epoch_early(self) -> None:
        """Drop the rest of the epoch and open the next one, by a new session with the arguments given to this loader,
        or else with those of the present session. No other code of the adapters ends an epoch early.
        """
        assert self._view is not None
        present = StartArguments(workers=self.enqueuer.workers, max_queue_size=self._view.max_queue_size)
        self.enqueuer.stop()
        self.enqueuer.start(**(self._start if self._may_start else present))
        self._enter_session()


class EpochLoop:
    """One ``for`` loop: the batches of one epoch, from where the stream is. It holds no batch.

    It begins with its first batch: loaders make iterators that they never use.
    """

    def __init__(self, loops: EpochLoops) -> None:
        self._loops = loops
        self._has_begun = self._is_over = False

    def __iter__(self) -> EpochLoop:
        return self

    def __next__(self) -> Any:
        if self._is_over:
            raise StopIteration
        if self._has_begun:
            self._loops.check(self)
        try:
            batch = self._loops.next_batch(self)
        except StreamEnd:
            self._is_over = True
            raise StopIteration from None
        self._has_begun = True
        return batch
