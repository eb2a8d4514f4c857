"""Passes: the training loops' one place in an enqueuer's stream. All views of the enqueuer share it.

A loop is named by an object, and belongs to a view. Its first request begins a pass, at the first batch of an epoch:

    pass before          epoch so far     next pass
    over                 ########|        has the next epoch
    left early           ##______|        repeats the kept batches and goes on: nothing is lost or computed twice
    left later, ended    #####___|        has the next epoch: this one ends early, its rest is dropped, its hook runs

Only two passes begin elsewhere: the first one after a resume, and one after a pass that had to be filled up.

Frameworks count in two ways:

- Keras and tf.data (``is_counted``) ask for ``len()`` batches, look at a few before they train, and let callbacks
  change the Sequence between epochs. A pass has ``len()`` batches; if an epoch delivers fewer (None, skipped errors),
  the next one fills the pass up. The first batches are kept.
- PyTorch and JAX iterate. A pass ends with its epoch, and no batch is kept.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Protocol

from enqueuer.runtime.epoch_view import EpochView
from enqueuer.runtime.iteration import StreamEnd

# Frameworks look at a few batches before they train (shapes, types, building the model) and then want them again.
# Keras 3 on TensorFlow looks at the most: two for the types, and a prefetched few for the build.
KEPT_COUNT = 8
# This many replaced loops are remembered: a prefetching thread of theirs may still ask.
_PAST_COUNT = 8


class Reader(Protocol):
    """A view, as `Passes` sees it."""

    @property
    def key(self) -> object:
        """Names the view. The view itself would keep the enqueuer alive."""

    @property
    def is_counted(self) -> bool:
        """Whether a pass has ``len()`` batches; otherwise it ends with its epoch."""

    def __len__(self) -> int: ...

    def enter_session(self) -> EpochView:
        """The running session, started first if need be."""


class Passes:
    """The passes over one enqueuer's stream, one at a time. Any thread may call any method."""

    def __init__(self) -> None:
        # Reentrant: a signal handler or the Sequence itself may ask for a batch while this thread waits for one.
        self._lock = threading.RLock()
        self._view: EpochView | None = None
        # Batches taken in the session, as far as passes took them.
        self._seen_total = 0
        self._loop: object | None = None
        self._key: object | None = None
        self._past_loops: deque[object] = deque(maxlen=_PAST_COUNT)
        # The present pass: its epoch or its length, batches taken from the stream, batches given to the loop, and the
        # first batches.
        self._is_counted = False
        self._epoch = -1
        self._length = self._taken = self._given = 0
        self._kept: list[Any] = []
        # The framework's epoch has ended within the pass; and so has the enqueuer's, which left its rest to this loop.
        self._has_ended = self._has_rest = False
        # A loop that iterates has been told that its pass is over.
        self._knows_end = False

    def next_batch(self, reader: Reader, loop: object | None) -> Any:
        """The next batch of the loop's pass: see `EpochLoops.next_batch`."""
        # A second thread waits until the first has its batch, since its own pass may begin with that batch.
        with self._lock:
            if reader.is_counted or loop is not self._loop:
                self._attend(reader, loop)
            batch = self._take() if self._given == self._taken else self._kept[self._given]
            self._given += 1
            return batch

    def check(self, loop: object) -> None:
        """Raise RuntimeError unless this loop was the last one to ask for a batch."""
        if loop is not self._loop:
            raise RuntimeError("another loop over the same enqueuer has begun: two cannot share its stream in passes")

    def is_open(self, reader: Reader) -> bool:
        """Whether the view's present loop has its epoch's last batch and has not been told of the end."""
        # Without the lock, which a thread that waits for a batch may hold.
        view = self._view
        is_its = self._loop is not None and reader.key is self._key and not (self._is_counted or self._knows_end)
        return is_its and view is not None and view.is_current() and view.next_epoch != self._epoch

    def end_pass(self, reader: Reader, *, may_go_on: bool) -> None:
        """The framework's epoch has ended, maybe before the pass: the enqueuer's epoch ends too, and its hook runs.

        ``may_go_on``: the same loop may ask for the rest of the pass, computed after the hook; a new loop begins a
        pass. Otherwise the loop asks for nothing more.
        """
        with self._lock:
            view = self._view
            is_within = self._loop is not None and 0 < self._given < self._length
            if reader.key is not self._key or not is_within or view is None or not view.is_current():
                return
            self._has_ended = True
            if not may_go_on:
                view.end_epoch()
                self.leave()
            elif view.has_hook:
                view.end_epoch(leave_rest=True)
                self._has_rest = True

    def leave(self) -> None:
        """The present loop asks for nothing more."""
        with self._lock:
            if self._loop is not None:
                self._past_loops.append(self._loop)
            self._loop = self._key = None

    def _attend(self, reader: Reader, loop: object | None) -> None:
        """Serve this loop from now on: begin a pass if it is new, or if it counts and its pass is over."""
        is_new = loop is not self._loop or reader.key is not self._key
        if is_new and any(loop is past for past in self._past_loops):
            self.check(loop)
        if self._view is None or not self._view.is_current():
            self._view, self._seen_total = reader.enter_session(), 0
            self._begin_pass(reader)
        elif is_new:
            self._replace_loop(reader)
        elif self._is_over():
            self._begin_pass(reader)
        elif self._has_rest:
            self._view.go_on()
        self._has_rest = False
        if is_new and self._loop is not None:
            self._past_loops.append(self._loop)
        self._loop, self._key = loop, reader.key

    def _replace_loop(self, reader: Reader) -> None:
        """Begin a pass for a new loop, or give it the first batches of the present one again."""
        assert self._view is not None
        # A look uses nothing up, even one at the whole of a short epoch.
        is_over = self._loop is not None and self._is_over()
        is_left = self._has_ended or self._taken > len(self._kept) or reader.is_counted != self._is_counted
        if is_left and not is_over:
            self._view.end_epoch()
        if is_left or is_over:
            self._begin_pass(reader)
        self._given = 0

    def _is_over(self) -> bool:
        assert self._view is not None
        return self._given == self._length if self._is_counted else self._view.next_epoch != self._epoch

    def _begin_pass(self, reader: Reader) -> None:
        view = self._view
        assert view is not None
        if view.taken_total != self._seen_total:
            # Taken by other ways, such as next(enqueuer.get()): what is left of that epoch is no pass.
            view.end_epoch()
        self._is_counted = reader.is_counted
        if self._is_counted:
            self._length = max(1, len(reader))
        else:
            self._epoch = view.next_epoch
        self._taken = self._given = 0
        self._kept = []
        self._has_ended = self._has_rest = self._knows_end = False

    def _take(self) -> Any:
        view = self._view
        assert view is not None
        try:
            batch = view.next_batch(None if self._is_counted else self._epoch)
        except StreamEnd:
            if self._is_counted:
                raise RuntimeError("the enqueuer was stopped in the middle of a pass") from None
            self._knows_end = True
            raise
        finally:
            self._seen_total = view.taken_total
        if self._is_counted and self._taken < KEPT_COUNT:
            self._kept.append(batch)
        elif self._kept:
            self._kept = []
        self._taken += 1
        return batch
