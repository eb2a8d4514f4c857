"""The bookmarks of an enqueuer, over its sessions: the last session's, and the beginning of the next one.

start() ───────────► make ──► Bookmark: the new session follows it
stop() ────────────► use_up      an epoch's number is not used twice
load_state_dict() ─► read, load  the next session goes on there
state_dict() ──────► state       of the loaded state, else of the last session, else of the beginning
"""

from __future__ import annotations

import random
from typing import Any

from enqueuer.errors import StateError
from enqueuer.options import Options
from enqueuer.runtime.bookmark import Bookmark, ResumePoint, fresh_state
from enqueuer.runtime.own_sequence import OwnSequence
from enqueuer.runtime.resume import load_state
from enqueuer.runtime.trainer_sequence import TrainerSequence
from enqueuer.stream.state import ResumeState

Saved = tuple[Bookmark | None, ResumePoint | None, int]


class Bookmarks:
    """The last session's bookmark, and the next session's beginning.

    The enqueuer writes under its start lock. Any thread may call `state`.
    """

    def __init__(self, own: TrainerSequence, options: Options) -> None:
        self._own = own
        self._options = options
        # The progress of the session that runs or ran last, and the progress loaded for the next one.
        self._last: Bookmark | None = None
        self._loaded: ResumePoint | None = None
        self._next_epoch = 0
        # A state saved before the next session has named its seed already.
        self._promised_seed: int | None = None

    def make(self, source: Any, epoch: int | None) -> Bookmark:
        """Make the next session's bookmark, for the enqueuer's Sequence ``source``.

        It begins in ``epoch``; None: after the last session, or at the loaded state. Raises ValueError if ``epoch``
        contradicts the loaded state, and StateError if that is of another Sequence.
        """
        options, loaded = self._options, self._loaded
        seed = options.seed if loaded is None or loaded.state.seed is None else loaded.state.seed
        seed = self._promise_seed() if seed is None else seed
        self._promised_seed = None
        if loaded is None:
            own = OwnSequence(self._own)
            return Bookmark(own, options, seed=seed, first_epoch=self._next_epoch if epoch is None else epoch)
        if epoch not in (None, loaded.epoch):
            raise ValueError(f"epoch={epoch}, but the state that was loaded goes on in epoch {loaded.epoch}")
        if loaded.source is not source:
            raise StateError("the Sequence was replaced after load_state_dict(): load the state again")
        return Bookmark(loaded.own, options, seed=seed, first_epoch=loaded.epoch, resume=loaded)

    def begin(self, bookmark: Bookmark) -> Saved:
        """The session of this bookmark begins. Returns the bookmarks before it, for `restore`."""
        before = self._last, self._loaded, self._next_epoch
        # In this order: `state` in another thread reads the loaded state first.
        self._last = bookmark
        self._loaded = None
        return before

    def restore(self, before: Saved) -> None:
        """The session did not open: the next one begins where this one should have."""
        self._last, self._loaded, self._next_epoch = before

    def use_up(self, epoch: int) -> None:
        """A session ended in this epoch. A broken-off epoch's number is not used again: its seeds would repeat."""
        self._next_epoch = max(self._next_epoch, epoch + 1)

    def read(self, state: Any, source: Any) -> ResumePoint:
        """Bring the Sequence to a saved state, for `load`. Runs user code.

        Raises StateError for a state that does not fit, and the errors of the Sequence's own code.
        """
        own = OwnSequence(self._own)
        point: ResumePoint = self._own.call(load_state, state, own, self._options, source)
        return point

    def load(self, point: ResumePoint) -> None:
        """Have the next session go on at this point."""
        self._loaded = point

    def state(self) -> ResumeState:
        """The progress in the stream. Raises the errors of the Sequence's own ``state_dict``, and StateError."""
        # In this order: `begin` sets the bookmark before it clears the loaded state.
        loaded, last = self._loaded, self._last
        if loaded is not None:
            return loaded.state
        state = None if last is None else last.state()
        if state is None:
            own = OwnSequence(self._own)
            if last is not None:
                epoch, seed = last.first_epoch, last.seed
            else:
                epoch, given = self._next_epoch, self._options.seed
                seed = self._promise_seed() if given is None else given
            state = self._own.call(fresh_state, own, self._options, epoch, seed)
        return state

    def disarm(self) -> None:
        """In a forked child: leave the last session's bookmark alone. Another thread may have held its lock."""
        self._last = None

    def _promise_seed(self) -> int:
        """The seed of the next session if nothing else gives one. A state saved before that has it already."""
        if self._promised_seed is None:
            self._promised_seed = random.getrandbits(64)
        return self._promised_seed
