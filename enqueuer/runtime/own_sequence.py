"""One session's view of the Sequence in the trainer: its epochs, and its state for saving.

    read() ──► enter(N): epoch N is computed from this instance ──► end_epoch(N): its on_epoch_end ──► read() …

The instance may be one epoch ahead of the trainer, since the next epoch may open early. `state` and `epoch_ends`
describe the *entered* instance: that of the epoch after the last one that ended.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from enqueuer.compute.drawn_epochs import check_order, length_of
from enqueuer.compute.epoch_state import EpochEnds, catch_up, run_seeded
from enqueuer.compute.owned_generators import OwnedGenerators
from enqueuer.compute.sequence_checks import batch_count, optional_method, own_on_epoch_end
from enqueuer.compute.spec import SequenceSpec
from enqueuer.errors import EnqueuerError, StateError
from enqueuer.runtime.trainer_sequence import TrainerSequence
from enqueuer.stream.hook_runs import HookRun
from enqueuer.stream.state import ResumeState


class OwnSequence:
    """Reads the enqueuer's Sequence, ends its epochs, and saves and restores its state.

    Its methods run where `call` runs them; other threads read state under `lock`. The lock is held while the Sequence's
    own ``state_dict`` runs, and never while ``on_epoch_end`` runs.
    """

    def __init__(self, source: TrainerSequence) -> None:
        self.source = source
        self.spec: SequenceSpec | None = None
        self.instance: Any = None
        # Reentrant: the Sequence's state_dict may ask the enqueuer for its own.
        self.lock = threading.RLock()
        # Under `lock`: the last epoch that ended (its hook has run); the entered epoch, its instance, whether that is
        # live and has a hook, and its on_epoch_end calls; while a hook runs, the Sequence's own state before it, as the
        # only element.
        self.over_epoch = -1
        self.entered_epoch = -1
        self._entered: Any = None
        self._entered_live = False
        self._has_hook = False
        self._ends = EpochEnds()
        self._before_hook: list[Any] = []
        self._released = False

    # ------------------------------------------------------------ the instance

    def read(self) -> Any:
        """Return the instance for the next epoch: the enqueuer's ``sequence`` may have been replaced meanwhile."""
        if self._released:
            raise EnqueuerError("the session has ended")
        self.spec, self.instance = self.source.read()
        return self.instance

    def length(self, epoch: int | None = None) -> int:
        """The batches of this epoch in the instance read last, drawn if need be; None: ``len()`` alone. Runs the user's
        ``__len__`` or sampler.
        """
        return batch_count(self.instance) if epoch is None else length_of(self.instance, epoch)

    @property
    def ends(self) -> EpochEnds:
        """The ``on_epoch_end`` calls on the instance read last."""
        return self.source.histories.of(self.instance)

    def release(self) -> None:
        """After the session: let go of an instance that was built."""
        self._released = True
        if not self._entered_live:
            self._entered = None
        if self.spec is not None:
            self.instance = None

    # ------------------------------------------------------------ epochs

    def begin(self, epoch: int) -> None:
        """Begin the session with this epoch."""
        self._released = False
        with self.lock:
            self.over_epoch = epoch - 1

    def enter(self, epoch: int, spec: SequenceSpec | None, instance: Any) -> None:
        """Note the instance of this epoch (built from ``spec``, or live), if it follows the last one that ended."""
        with self.lock:
            if epoch == self.over_epoch + 1:
                self.entered_epoch, self._entered, self._entered_live = epoch, instance, spec is None
                self._has_hook = own_on_epoch_end(instance) is not None
                self._ends = self.source.histories.of(instance)

    @property
    def has_hook(self) -> bool:
        """Whether the Sequence of the trainer's epoch has an ``on_epoch_end`` of its own."""
        return self._has_hook

    def end_epoch(self, seed: int, epoch: int, instance: Any) -> None:
        """Run the instance's ``on_epoch_end``, if it has its own.

        The global generators are seeded for the call and restored after it, so other instances, and later runs, repeat
        it. Until the call has returned, and if it raises, `state` is the state before it.
        """
        hook, ends = own_on_epoch_end(instance), self.source.histories.of(instance)
        if hook is not None:
            with self.lock:
                self._before_hook = [self._state_or_error()]
            with self._whole_or_discarded():
                run_seeded(hook, OwnedGenerators(instance), (seed, epoch))
        with self.lock:
            if hook is not None:
                ends.append((seed, epoch))
                self._before_hook = []
            self.over_epoch = epoch
        self.source.end_epoch()

    # ------------------------------------------------------------ its state

    def epoch_ends(self, seed: int, epoch: int) -> tuple[HookRun, ...]:
        """The ``on_epoch_end`` calls on the Sequence of the trainer's epoch. Called under `lock`.

        With ``prefetch_epochs=True`` the trainer may be ahead of a hook; that call counts as made.
        """
        if epoch <= self.over_epoch + 1 or not self._has_hook:
            return self._ends.runs
        ends = EpochEnds(self._ends.runs)
        for over in range(self.over_epoch + 1, epoch):
            ends.append((seed, over))
        return ends.runs

    def state(self) -> Any:
        """The live Sequence's own state, or None. Called under `lock`. Raises StateError for values other than JSON."""
        state = self._before_hook[0] if self._before_hook else self._state_or_error()
        if isinstance(state, Exception):
            raise state
        return state

    def _state_or_error(self) -> Any:
        if not self._entered_live or not _keeps_state(self._entered):
            return None
        try:
            state = self._entered.state_dict()
            try:
                # A copy: the Sequence may go on changing the original.
                return json.loads(json.dumps(state))
            except (TypeError, ValueError) as error:
                raise StateError(f"state_dict() of the Sequence is not made of JSON values: {error}") from error
        except Exception as error:
            return error

    def restore(self, state: ResumeState) -> None:
        """Bring the Sequence to the saved state, and check its length.

        Raises StateError if that is impossible, and the errors of the user's own code.
        """
        instance = self.read()
        check_order(instance, state.order, None)
        seed = 0 if state.seed is None else state.seed
        ended = state.epoch_is_over and state.epoch_end
        saved = EpochEnds(state.epoch_ends)
        if self.spec is None and state.sequence is not None and _keeps_state(instance):
            instance.load_state_dict(json.loads(json.dumps(state.sequence)))
            self.source.histories.replace(instance, saved)
        else:
            instance = self._replay(instance, seed, state.epoch + ended, saved)
        self._check_length(state.epoch + ended, state.next_length if ended else state.length)
        self.begin(state.epoch + ended)
        self.enter(state.epoch + ended, self.spec, instance)

    def _replay(self, instance: Any, seed: int, epoch: int, saved: EpochEnds) -> Any:
        """Bring a Sequence without a state of its own to this epoch, by ``set_epoch`` or the saved hook calls.

        Returns the instance: another one, if the one that was built has had other calls.
        """
        histories = self.source.histories
        had = histories.of(instance)
        if optional_method(instance, "set_epoch") is None and own_on_epoch_end(instance) is None:
            histories.replace(instance, saved)
            return instance
        if optional_method(instance, "set_epoch") is None and list(islice(saved, len(had))) != list(had):
            if self.spec is None:
                raise StateError(
                    f"this {type(instance).__qualname__} has had {len(had)} calls of on_epoch_end that the state knows "
                    "nothing of: give a fresh one, or let it have set_epoch(), or state_dict() and load_state_dict()"
                )
            self.source.discard()
            instance = self.read()
            had = histories.of(instance)
        with self._whole_or_discarded():
            catch_up(instance, epoch, seed, islice(saved, len(had), None), had.append)
        histories.replace(instance, saved)
        return instance

    @contextmanager
    def _whole_or_discarded(self) -> Iterator[None]:
        """Discard a built instance whose hook fails: it is half-way between two epochs."""
        try:
            yield
        except BaseException:
            if self.spec is not None:
                self.source.discard()
            raise

    def _check_length(self, epoch: int, expected: int | None) -> None:
        length = self.length(epoch)
        if expected is not None and length != expected:
            raise StateError(f"the state is of a Sequence with {expected} batches, and this one has {length}")


def _keeps_state(instance: Any) -> bool:
    return all(optional_method(instance, name) is not None for name in ("state_dict", "load_state_dict"))
