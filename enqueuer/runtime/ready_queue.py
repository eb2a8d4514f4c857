"""The bounded local queue between the I/O thread, which fills it, and the training loop, which takes from it.

It holds outcomes in the order of delivery and knows where the stream is: which epoch, and how much of it was taken.
Its length is bounded by the core, which grants no more leases than there is room for.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from enqueuer.runtime.receipts import Receipts, Received

# A signal handler that calls `close` between a waiting consumer's look and its sleep wakes nobody.
_LOOK_AGAIN_SECONDS = 0.5


class End(Enum):
    """What `take` returns instead of an outcome."""

    CLOSED = "the queue was closed"
    EPOCH = "the epoch asked for has no more outcomes"


class ReadyQueue:
    """One stream for any number of consumers.

    The lock protects a few integers and the deque; it is held for about a microsecond, except that a consumer waits
    on the condition. ``wake`` tells the I/O thread that room was made. ``epoch_taken(epoch)`` says that its last
    outcome was taken, and ``epoch_wanted(epoch)`` that a consumer waits for its first. These two are called while the
    lock is held, so that their order is the stream's, and must only hand something over.
    """

    def __init__(
        self,
        first_epoch: int,
        wake: Callable[[], None],
        epoch_taken: Callable[[int], None],
        epoch_wanted: Callable[[int], None],
    ) -> None:
        # Reentrant: an abandoned enqueuer's finalizer and a user's signal handler may call `close` in the middle of any
        # of these methods. Entered as itself and not through the condition, whose Python-level __enter__ a Ctrl-C could
        # leave after the lock was taken.
        self._lock = threading.RLock()
        self._condition = threading.Condition(self._lock)
        self._wake = wake
        self._epoch_taken = epoch_taken
        self._epoch_wanted = epoch_wanted
        self._outcomes: deque[Any] = deque()
        self._receipts = Receipts(first_epoch)
        self._lengths: dict[int, int] = {}
        self._epoch = first_epoch
        self._taken_in_epoch = 0
        # How many outcomes may be taken without a look at where the epoch ends: all between its first and its last.
        self._inner_left = 0
        self._wanted_epoch = -1
        # The last one of which was told that it is over.
        self._told_epoch = -1
        self._wake_at: float = math.inf
        # Not the outcome itself, whose memory goes back when its consumer is done with it.
        self._last_taken = 0
        self._error: Callable[[], BaseException] | None = None
        self._closed = False
        # Read by other threads without the lock: each is one attribute, written under it.
        self.taken_total = 0
        self.wait_seconds = 0.0

    # ------------------------------------------------------------ the filling side

    def set_length(self, epoch: int, length: int) -> None:
        """The epoch will have this many outcomes; said before the first of them is put."""
        with self._lock:
            self._lengths[epoch] = length

    def put(self, epoch: int, positions: Sequence[int], outcomes: Sequence[Any]) -> None:
        """Add outcomes of these positions, in the order of delivery; epochs follow one another."""
        with self._lock:
            if self._closed:
                return
            self._receipts.count(self.taken_total)
            self._receipts.note_put(epoch, positions, outcomes)
            self._outcomes.extend(outcomes)
            # All: one that was told and then interrupted (Ctrl-C) would keep the news from the others.
            self._condition.notify_all()

    def wake_at(self, taken_total: int | None) -> None:
        """Call ``wake`` once this many outcomes were taken in all, at once if they were; None: never."""
        with self._lock:
            due = taken_total is not None and self.taken_total >= taken_total
            self._wake_at = math.inf if due or taken_total is None else taken_total
        if due:
            self._wake()

    def fail(self, make_error: Callable[[], BaseException]) -> None:
        """End the stream with this error, after what is in the queue; only the first one counts."""
        with self._lock:
            if self._error is None:
                self._error = make_error
            self._condition.notify_all()

    def close(self) -> None:
        """Drop everything; every consumer, also a waiting one, gets `End.CLOSED`."""
        with self._lock:
            self._closed = True
            self._outcomes.clear()
            self._condition.notify_all()

    # ------------------------------------------------------------ the taking side

    def take(self, only_epoch: int | None = None) -> Any:
        """The next outcome. Waits for it as long as the session lives.

        Returns `End.CLOSED` after `close()`, `End.EPOCH` if the stream has passed ``only_epoch``; raises the error
        given to `fail` once everything before it was taken.
        """
        with self._lock:
            if not (self._outcomes and self._inner_left and (only_epoch is None or only_epoch == self._epoch)):
                end = self._wait_for_outcome(only_epoch)
                if end is not None:
                    return end
            try:
                # No call from here to where it is counted: a Ctrl-C comes at calls, and would lose it.
                outcome = self._outcomes[0]
                del self._outcomes[0]
            except IndexError:
                return End.CLOSED  # by this very thread, in a signal handler
            self.taken_total += 1
            # Looked at only now: while this one waited, others may have taken all before the epoch's last one.
            if self._inner_left:
                self._taken_in_epoch += 1
                self._inner_left -= 1
            else:
                self._take_at_boundary()
            self._last_taken = id(outcome)
            wake = self.taken_total >= self._wake_at
            if wake:
                self._wake_at = math.inf
        if wake:
            self._wake()
        return outcome

    def _take_at_boundary(self) -> None:
        """What was taken may be an epoch's first or last outcome."""
        if self.taken_total == 1 or self._taken_in_epoch == self._lengths[self._epoch]:
            self._enter_next_epoch()
        self._taken_in_epoch += 1
        length = self._lengths[self._epoch]
        self._inner_left = max(0, length - self._taken_in_epoch - 1)
        if self._taken_in_epoch == length:
            self._end_epoch()
            # Those who wait for more of this epoch wait in vain.
            self._condition.notify_all()

    def _wait_for_outcome(self, only_epoch: int | None) -> End | None:
        started: float | None = None
        while True:
            if only_epoch is not None and self._next_epoch > only_epoch:
                return End.EPOCH
            if self._closed:
                return End.CLOSED
            if self._outcomes:
                break
            if self._error is not None:
                raise self._error()
            if self._at_boundary and self._wanted_epoch < self._next_epoch:
                # Told, then noted: a Ctrl-C in between has it told twice, which does no harm.
                self._epoch_wanted(self._next_epoch)
                self._wanted_epoch = self._next_epoch
            if started is None:
                started = time.monotonic()
            self._condition.wait(_LOOK_AGAIN_SECONDS)
        if started is not None:
            self.wait_seconds += time.monotonic() - started
        return None

    @property
    def _at_boundary(self) -> bool:
        """Whether the next outcome is an epoch's first."""
        length = self._lengths.get(self._epoch)
        return length is None or self._taken_in_epoch == length or self.taken_total == 0

    @property
    def _next_epoch(self) -> int:
        """The epoch of the next outcome."""
        if self.taken_total == 0:
            return self._epoch
        return self._epoch + (self._taken_in_epoch == self._lengths[self._epoch])

    def _enter_next_epoch(self) -> None:
        if self.taken_total > 1:
            del self._lengths[self._epoch]
            self._epoch += 1
            self._taken_in_epoch = 0

    def _end_epoch(self) -> None:
        """Its last outcome was taken. With a failed batch the epoch is not over: a resume tries that one again."""
        self._receipts.count(self.taken_total)
        if self._receipts.received_count == self._lengths[self._epoch] and self._told_epoch < self._epoch:
            self._told_epoch = self._epoch
            self._epoch_taken(self._epoch)

    def take_back(self) -> None:
        """What this consumer took last could not be used: it was not received.

        Called at once, so with a single consumer exact. An epoch that is over stays so: its ``on_epoch_end`` may run.
        """
        with self._lock:
            self._receipts.count(self.taken_total)
            if self._taken_in_epoch < self._lengths.get(self._epoch, 0):
                self._receipts.take_back()

    def put_back(self, outcome: Any) -> None:
        """What this consumer took last is there to be taken again: it was interrupted before it could use it.

        Called at once; where another consumer has taken one since, its place is gone, and so is it. An epoch that is
        over stays so, as with `take_back`: its last outcome counts as received, and that it is over is not told again.
        """
        with self._lock:
            if self._closed or self._last_taken != id(outcome):
                return
            self._receipts.count(self.taken_total)
            if self._taken_in_epoch < self._lengths[self._epoch]:
                self._receipts.put_back()
            self._outcomes.appendleft(outcome)
            self.taken_total -= 1
            self._taken_in_epoch -= 1
            self._inner_left = 0  # found again with the next one that is taken
            self._condition.notify_all()

    # ------------------------------------------------------------ for everybody

    def received(self) -> Received:
        """What the consumers have received, as of one moment."""
        with self._lock:
            self._receipts.count(self.taken_total)
            return self._receipts.received()

    def raise_failure(self) -> None:
        """Raise the error given to `fail`, if there is one, although something may still be in front of it."""
        if self._error is not None:
            raise self._error()

    @property
    def next_epoch(self) -> int:
        """The epoch that the next outcome belongs to."""
        with self._lock:
            return self._next_epoch

    @property
    def progress(self) -> tuple[int, int, int, int]:
        """Epoch, outcomes taken of it, its length (0: not known yet), and outcomes ready to take."""
        with self._lock:
            return self._epoch, self._taken_in_epoch, self._lengths.get(self._epoch, 0), len(self._outcomes)
