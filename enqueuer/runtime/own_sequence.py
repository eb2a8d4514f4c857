"""The trainer's own instance of the Sequence (the caller's object, or one built from a `SequenceSpec`) and its state.

    read() ──► enter(N): epoch N is computed from this instance ──► end_epoch(N): its on_epoch_end ──► read() …

The instance may be one epoch ahead of the trainer, since the next epoch may open early. `state` and `epoch_ends`
describe the *entered* instance: that of the epoch after the last one that ended.
"""

from __future__ import annotations

import json
import operator
import threading
import weakref
from collections.abc import Callable
from itertools import islice
from typing import Any

from enqueuer.compute.epoch_state import EpochEnds, catch_up, run_seeded
from enqueuer.compute.owned_generators import OwnedGenerators
from enqueuer.compute.sequence_checks import optional_method, own_on_epoch_end
from enqueuer.compute.spec import SequenceSpec
from enqueuer.errors import EnqueuerError, StateError
from enqueuer.stream.state import HookRun, ResumeState


class Histories:
    """The ``on_epoch_end`` calls of one enqueuer on live objects, over all its sessions.

    Objects are told apart by identity, since some have no hash, and held by weak references where possible.
    """

    def __init__(self) -> None:
        # The hook thread, and a thread that asks for a state, may meet a new object at once. Reentrant, as a signal
        # handler may call stop() in the middle.
        self._lock = threading.RLock()
        self._entries: list[tuple[Callable[[], Any], EpochEnds]] = []

    def of(self, instance: Any) -> EpochEnds:
        """The calls on this object; kept from now on."""
        with self._lock:
            for refer, ends in self._entries:
                if refer() is instance:
                    return ends
            return self._put(instance, EpochEnds())

    def replace(self, instance: Any, ends: EpochEnds) -> None:
        """Set the calls on this object."""
        with self._lock:
            self._put(instance, ends)

    def _put(self, instance: Any, ends: EpochEnds) -> EpochEnds:
        self._entries = [entry for entry in self._entries if all(entry[0]() is not gone for gone in (None, instance))]
        try:
            refer: Callable[[], Any] = weakref.ref(instance)
        except TypeError:

            def refer() -> Any:
                return instance

        self._entries.append((refer, ends))
        return ends


class OwnSequence:
    """Reads the enqueuer's ``sequence``, ends its epochs, and saves and restores its state.

    Used by the thread that runs hooks; other threads read state under `lock`. The lock is held while the Sequence's own
    ``state_dict`` runs, and never while ``on_epoch_end`` runs.
    """

    def __init__(self, get_sequence: Callable[[], Any], histories: Histories | None = None) -> None:
        self._get_sequence = get_sequence
        self._histories = Histories() if histories is None else histories
        self.spec: SequenceSpec | None = None
        self.instance: Any = None
        self._spec_ends = EpochEnds()
        # Reentrant: the Sequence's state_dict may ask the enqueuer for its own.
        self.lock = threading.RLock()
        # Under `lock`: the last epoch that ended (its hook has run); the entered epoch, its instance, whether that is
        # live, and its on_epoch_end calls; while a hook runs, the Sequence's own state before it, as the only element.
        self.over_epoch = -1
        self.entered_epoch = -1
        self._entered: Any = None
        self._entered_live = False
        self._ends = EpochEnds()
        self._before_hook: list[Any] = []
        self._released = False

    # ------------------------------------------------------------ the instance

    def read(self) -> Any:
        """Return the instance for the next epoch: the enqueuer's ``sequence`` may have been replaced meanwhile."""
        if self._released:
            raise EnqueuerError("the session has ended")
        source = self._get_sequence()
        if not isinstance(source, SequenceSpec):
            self.spec, self.instance = None, source
        elif source != self.spec:
            self.spec, self.instance = source, source.build()
            self._spec_ends = EpochEnds()
        return self.instance

    def length(self) -> int:
        """``len()`` of the instance read last; runs the user's ``__len__``."""
        return operator.index(len(self.instance))

    @property
    def ends(self) -> EpochEnds:
        """The ``on_epoch_end`` calls on the instance read last."""
        return self._ends_of(self.instance)

    def _ends_of(self, instance: Any) -> EpochEnds:
        return self._spec_ends if self.spec is not None and instance is self.instance else self._histories.of(instance)

    def release(self) -> None:
        """After the session: drop an instance that was built for it."""
        self._released = True
        if not self._entered_live:
            self._entered = None
        if self.spec is not None:
            self.instance = None

    # ------------------------------------------------------------ epochs

    def begin(self, epoch: int) -> None:
        """Begin the session with this epoch."""
        with self.lock:
            self.over_epoch = epoch - 1

    def enter(self, epoch: int, spec: SequenceSpec | None, instance: Any) -> None:
        """Note the instance of this epoch (built from ``spec``, or live), if it follows the last one that ended."""
        with self.lock:
            if epoch == self.over_epoch + 1:
                self.entered_epoch, self._entered, self._entered_live = epoch, instance, spec is None
                self._ends = self._ends_of(instance)

    def end_epoch(self, seed: int, epoch: int, instance: Any) -> None:
        """Run the instance's ``on_epoch_end``, if it has its own.

        The global generators are seeded for the call and restored after it, so other instances, and later runs, repeat
        it. Until the call has returned, and if it raises, `state` is the state before it.
        """
        hook, ends = own_on_epoch_end(instance), self._ends_of(instance)
        if hook is not None:
            with self.lock:
                self._before_hook = [self._state_or_error()]
            run_seeded(hook, OwnedGenerators(instance), (seed, epoch))
        with self.lock:
            if hook is not None:
                ends.append((seed, epoch))
                self._before_hook = []
            self.over_epoch = epoch

    # ------------------------------------------------------------ its state

    def epoch_ends(self, seed: int, epoch: int) -> tuple[HookRun, ...]:
        """The ``on_epoch_end`` calls on the Sequence of the trainer's epoch. Called under `lock`.

        With ``prefetch_epochs=True`` the trainer may be ahead of a hook; that call counts as made.
        """
        if epoch <= self.over_epoch + 1 or own_on_epoch_end(self._entered) is None:
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
        seed = 0 if state.seed is None else state.seed
        ended = state.epoch_is_over and state.epoch_end
        saved = EpochEnds(state.epoch_ends)
        if self.spec is None and state.sequence is not None and _keeps_state(instance):
            instance.load_state_dict(json.loads(json.dumps(state.sequence)))
            self._histories.replace(instance, saved)
        else:
            self._replay(instance, seed, state.epoch + ended, saved)
        self._check_length(state.next_length if ended else state.length)
        self.begin(state.epoch + ended)
        self.enter(state.epoch + ended, self.spec, instance)

    def _replay(self, instance: Any, seed: int, epoch: int, saved: EpochEnds) -> None:
        """Bring a Sequence without a state of its own to this epoch, by ``set_epoch`` or the saved hook calls."""
        had = self._ends_of(instance)
        if optional_method(instance, "set_epoch") is not None:
            catch_up(instance, epoch, seed, (), had.append)
        elif own_on_epoch_end(instance) is not None:
            if list(islice(saved, len(had))) != list(had):
                raise StateError(
                    f"this {type(instance).__qualname__} has had {len(had)} calls of on_epoch_end that the state knows "
                    "nothing of: give a fresh one, or let it have set_epoch(), or state_dict() and load_state_dict()"
                )
            catch_up(instance, epoch, seed, islice(saved, len(had), None), had.append)
        if self.spec is not None:
            self._spec_ends = saved
        else:
            self._histories.replace(instance, saved)

    def _check_length(self, expected: int | None) -> None:
        length = self.length()
        if expected is not None and length != expected:
            raise StateError(f"the state is of a Sequence with {expected} batches, and this one has {length}")


class SequenceReader:
    """Reads ``enqueuer.sequence`` without keeping the enqueuer alive."""

    def __init__(self, enqueuer: Any) -> None:
        self._enqueuer = weakref.ref(enqueuer)

    def __call__(self) -> Any:
        enqueuer = self._enqueuer()
        if enqueuer is None:
            raise EnqueuerError("the enqueuer is gone")
        return enqueuer.sequence


def _keeps_state(instance: Any) -> bool:
    return all(optional_method(instance, name) is not None for name in ("state_dict", "load_state_dict"))
