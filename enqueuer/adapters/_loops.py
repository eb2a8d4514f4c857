"""Views of an enqueuer: names for training loops over its one endless stream. `Passes` says what each loop gets."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypedDict

from enqueuer.options import QueueSize
from enqueuer.runtime.iteration import StreamEnd
from enqueuer.stream.state import read_states

if TYPE_CHECKING:
    from enqueuer.runtime.epoch_view import EpochView
    from enqueuer.sequence_enqueuer import SequenceEnqueuer

# In a state: the loop has had its last batch and has not ended.
_OPEN_LOOP = "open_loop"


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
    """The arguments that the caller gave: ``workers`` unless it is `NOT_GIVEN`, the others unless they are None."""
    given = StartArguments()
    if workers is not NOT_GIVEN:
        given["workers"] = workers
    if max_queue_size is not None:
        given["max_queue_size"] = max_queue_size
    if epoch is not None:
        given["epoch"] = epoch
    return given


def without_open_loop(state: dict[str, Any]) -> dict[str, Any]:
    """The state for a trainer that goes on with the next epoch after a loop's last batch."""
    return {name: value for name, value in state.items() if name != _OPEN_LOOP}


class EpochLoops:
    """A view of the enqueuer: gives each of its loops passes over the enqueuer's stream.

    ``counted``: a pass has ``len(enqueuer)`` batches; otherwise it ends with its epoch.
    With ``start`` arguments a loop starts an enqueuer that is not running, the first one at their ``epoch`` (unless a
    state is loaded before). Without them the enqueuer must be running.
    """

    def __init__(self, enqueuer: SequenceEnqueuer, *, counted: bool = False, start: StartArguments | None = None):
        self.enqueuer = enqueuer
        self.is_counted = counted
        self.key = object()
        self._start = StartArguments(**(start or {}))
        self._may_start = bool(start)
        # The next loop is the rest of one that had all its batches when its state was saved: it has none.
        self._is_loop_open = False

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
        """The place after the last batch handed out, as `SequenceEnqueuer.state_dict` gives it.

        In a ``for`` loop that has its epoch's last batch and has not ended yet, it says so: the first loop after a
        resume has nothing, and then the next epoch begins.
        """
        state = self.enqueuer.state_dict()
        return {**state, _OPEN_LOOP: True} if self._is_loop_open or self.enqueuer._passes.is_open(self) else state

    def load_state_dict(self, state: Any) -> None:
        """Go on at this place, as `SequenceEnqueuer.load_state_dict` does. A loader with arguments of ``start()`` stops
        a running enqueuer first, and its next loop starts it again.

        Raises StateError if the state does not fit, RuntimeError if the enqueuer is running and may not be stopped.
        """
        if self._may_start:
            self.enqueuer.stop()
        self.enqueuer.load_state_dict(state)
        states = state if isinstance(state, (list, tuple)) else [state]
        self._is_loop_open = all(one.get(_OPEN_LOOP) is True for one in states)
        self._start.pop("epoch", None)
        self.enqueuer._passes.leave()

    # ------------------------------------------------------------ loops

    def next_batch(self, loop: object | None) -> Any:
        """The next batch of this loop's pass. Waits for it, and raises its errors, as ``next(enqueuer.get())`` does.

        ``loop`` is any object that names the loop, the same one each time. None is a look at the first batches: it uses
        none of them up.

        Raises RuntimeError if the enqueuer is not running or another loop has begun a pass meanwhile, and StreamEnd
        after the epoch or the session. A counted loop goes on with the next epoch instead, and gets a RuntimeError for
        a stop in the middle of a pass: frameworks take an ordinary end for that of the epoch.
        """
        if self._is_loop_open:
            self._is_loop_open = False
            raise StreamEnd
        return self.enqueuer._passes.next_batch(self, loop)

    def check(self, loop: object) -> None:
        """Raise RuntimeError unless this loop was the last one to ask for a batch."""
        self.enqueuer._passes.check(loop)

    def end_pass(self, *, may_go_on: bool) -> None:
        """End the enqueuer's epoch with the framework's, however short that was: see `Passes.end_pass`."""
        self.enqueuer._passes.end_pass(self, may_go_on=may_go_on)

    def enter_session(self) -> EpochView:
        """The running session; started first, if none runs and arguments for it were given."""
        view = self.enqueuer._epoch_view()
        if view is None and self._may_start:
            self.enqueuer.start(**self._start)
            view = self.enqueuer._epoch_view()
        if view is None:
            instead = "before you train, predict or iterate" if self.is_counted else "first, or give workers= here"
            raise RuntimeError(f"the enqueuer is not running: call its start(workers=…) {instead}")
        # Only the first loop begins at that epoch.
        self._start.pop("epoch", None)
        return view


class EpochLoop:
    """One ``for`` loop: the batches of one epoch, from where the stream is. It holds no batch.

    It begins with its first batch: loaders make iterators that they never use. After an error that has stopped the
    enqueuer it raises RuntimeError once, before its end: a program that passes over errors must not take the rest of
    the epoch for delivered.
    """

    def __init__(self, loops: EpochLoops) -> None:
        self._loops = loops
        # Not the loop itself: the enqueuer, which remembers its loops by name, would keep itself alive by it.
        self.name = object()
        self._has_begun = self._is_over = self._has_failed = False

    @property
    def is_under_way(self) -> bool:
        """Whether it has had a batch, and its end has not been asked for."""
        return self._has_begun and not self._is_over

    def __iter__(self) -> EpochLoop:
        return self

    def __next__(self) -> Any:
        if self._is_over:
            raise StopIteration
        if self._has_begun:
            self._loops.check(self.name)
        try:
            batch = self._loops.next_batch(self.name)
        except StreamEnd:
            self._is_over = True
            if self._has_failed:
                raise RuntimeError(
                    "the rest of this epoch is missing: its last error has stopped the enqueuer. Begin a new loop; "
                    'on_error="skip" leaves failed batches out without an error'
                ) from None
            raise StopIteration from None
        except Exception:
            self._has_failed = not self._loops.enqueuer.is_running()
            raise
        self._has_begun = True
        return batch
