"""The enqueuer as a loader that is iterated once an epoch, as PyTorch's and JAX's training loops do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enqueuer.stream.state import read_states

if TYPE_CHECKING:
    from enqueuer.sequence_enqueuer import SequenceEnqueuer


class EpochStream:
    """One pass a ``for`` loop, and the place in the stream of what the loop was given.

    ``start_arguments`` are those of `SequenceEnqueuer.start`: with them, an enqueuer that is not running is started
    when it is iterated. ``epoch`` among them is where the first loop begins, if no state is loaded before.
    """

    def __init__(self, enqueuer: SequenceEnqueuer, start_arguments: dict[str, Any]) -> None:
        self._enqueuer = enqueuer
        self._start_arguments = dict(start_arguments)
        self._may_start = bool(start_arguments)
        self._pass: Pass | None = None

    def __len__(self) -> int:
        """Batches in one epoch."""
        return len(self._enqueuer)

    @property
    def epoch(self) -> int:
        """The epoch of the next batch. ``while loader.epoch < 10:`` trains ten epochs, however often it is resumed."""
        (state,) = read_states(self.state_dict())
        return state.epoch + state.epoch_is_over

    def state_dict(self) -> dict[str, Any]:
        """The place after the last batch that was handed out, as `SequenceEnqueuer.state_dict` gives it."""
        return self._enqueuer.state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Go on there: see `SequenceEnqueuer.load_state_dict`. A running enqueuer is stopped first, and started again
        when this is iterated, if the arguments of its ``start()`` were given here.

        Raises StateError if the state does not fit, RuntimeError if it is running and could not be started again.
        """
        if self._may_start:
            self._enqueuer.stop()
        self._enqueuer.load_state_dict(state)
        self._start_arguments.pop("epoch", None)
        self._pass = None

    def begin(self, new: Pass) -> None:
        """Have the enqueuer run, at the beginning of an epoch if the last pass was broken off."""
        enqueuer, last = self._enqueuer, self._pass
        if not enqueuer.is_running():
            if not self._may_start:
                raise RuntimeError(
                    "the enqueuer is not running: call its start(workers=…) first, or give those arguments here"
                )
            enqueuer.start(**self._start_arguments)
            # Later ones go on from there.
            self._start_arguments.pop("epoch", None)
        elif last is not None and last.is_broken_off(enqueuer._session):
            present: dict[str, Any] = {"workers": enqueuer.workers, "max_queue_size": last.max_queue_size}
            enqueuer.stop()
            enqueuer.start(**(self._start_arguments if self._may_start else present))
        self._pass = new

    def check(self, one: Pass) -> None:
        """Raises RuntimeError if this is no longer the pass that the stream is for."""
        if one is not self._pass:
            raise RuntimeError("another loop over the same enqueuer has begun: two cannot share its stream in passes")


class Pass:
    """The batches of one epoch, from where the stream is; one that is left early is broken off.

    It begins with its first batch: loaders make iterators that they never use. It holds no batch.
    """

    def __init__(self, stream: EpochStream, enqueuer: SequenceEnqueuer) -> None:
        self._stream = stream
        self._enqueuer = enqueuer
        self._session: Any = None
        self._batches: Any = None
        self._epoch = -1
        self._over = False

    def __iter__(self) -> Pass:
        return self

    def __next__(self) -> Any:
        if self._over:
            raise StopIteration
        if self._session is None:
            self._stream.begin(self)
            self._session = self._enqueuer._session
            self._epoch = -1 if self._session is None else self._session.next_epoch
            self._batches = self._enqueuer.epoch()
        self._stream.check(self)
        try:
            return next(self._batches)
        except StopIteration:
            self._over = True
            raise

    @property
    def max_queue_size(self) -> Any:
        """Of the session that it is a pass of."""
        return self._session.max_queue_size

    def is_broken_off(self, session: Any) -> bool:
        """Whether some of its epoch is left. Not if the enqueuer was started anew meanwhile."""
        return session is self._session and not self._over and session.next_epoch == self._epoch
