"""The ready queue: one stream of outcomes in the order of delivery, for any number of consumers.

    hook thread ── set_length ─┐                              ┌─ take ──► consumer threads
                               ├──►  a │ b c d │ e f   ───────┤
    I/O thread ── put, wake_at ┘     epochs, end to end       ├─ epoch_taken, epoch_wanted ──► hook thread
                                                              └─ wake ──► I/O thread

The core bounds the queue: it grants no more leases than there is room for. A take makes room; the I/O thread is woken
at the number of takes that it named with `wake_at`, since waking it for each would cost more than a short batch.

Inside an epoch a take only counts down. At its boundaries more happens: the last take reports the epoch with
``epoch_taken`` and releases the consumers that wait for more of that epoch alone; a consumer that finds no first
outcome reports ``epoch_wanted``, once, and waits; the first take moves the queue on to the next epoch. `end_epoch` ends
an epoch early: its outcomes are dropped, those in the queue and those that still come.

One lock protects everything, held for about a microsecond. It is reentrant: an abandoned enqueuer's finalizer or a
user's signal handler may call `close` in the middle of any method, in the same thread.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from enqueuer.runtime.receipts import Receipts, Received
from enqueuer.runtime.stream_times import StreamTimes
from enqueuer.stream.ranges import Ranges

# The longest wait of a consumer before it looks again: a `close` by a signal handler, run by the consumer's own thread
# just before it sleeps, comes too early to wake it.
_LOOK_AGAIN_SECONDS = 0.5


class End(Enum):
    """The results of `take` without an outcome."""

    CLOSED = "the queue was closed"
    EPOCH = "the epoch asked for has no more outcomes"


class ReadyQueue:
    """The queue of one session. Any thread may call any method.

    ``wake()`` tells the I/O thread of room. ``epoch_taken(epoch)`` reports the take of an epoch's last outcome,
    ``epoch_wanted(epoch)`` a consumer that waits for its first. Both are called under the lock, so their order is the
    stream's; they must only hand the report over.
    """

    def __init__(
        self,
        first_epoch: int,
        wake: Callable[[], None],
        epoch_taken: Callable[[int], None],
        epoch_wanted: Callable[[int], None],
    ) -> None:
        # Entered as itself and not through the condition: a Ctrl-C could leave the condition's Python-level __enter__
        # after the lock was taken.
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
        # Outcomes left before the epoch's last one; 0: the next take is at a boundary, or must look whether it is.
        self._inner_left = 0
        # The newest epoch reported by `epoch_wanted`; the newest one reported by `epoch_taken` or ended by `end_epoch`;
        # the newest one ended by `end_epoch`; and the newest one of these after its hook.
        self._wanted_epoch = self._over_epoch = self._ended_early = self._hook_done = -1
        self._wake_at: float = math.inf
        # The id of the outcome taken last. A reference would keep its memory in use after its consumer dropped it.
        self._last_taken_id = 0
        self._error: BaseException | None = None
        self._closed = False
        # Read by other threads without the lock: each is one attribute, written under it.
        self.taken_total = 0
        self.dropped_total = 0
        self.times = StreamTimes()

    # ------------------------------------------------------------ the filling side

    def set_length(self, epoch: int, length: int) -> None:
        """Set the number of the epoch's outcomes, before the first of them is put."""
        with self._lock:
            self._lengths[epoch] = length

    def put(self, epoch: int, positions: Sequence[int], outcomes: Sequence[Any]) -> None:
        """Add the outcomes of these positions, in the order of delivery. Epochs follow one another."""
        with self._lock:
            if self._closed:
                return
            if epoch <= self._ended_early:
                self.dropped_total += len(outcomes)
                return
            self._receipts.count(self.taken_total)
            self._receipts.note_put(epoch, positions, outcomes)
            if not self._outcomes:
                self.times.note_put()
            self._outcomes.extend(outcomes)
            # All consumers: a single one could be interrupted (Ctrl-C), and the others would sleep on.
            self._condition.notify_all()

    def wake_at(self, removed_total: int | None) -> None:
        """Call ``wake``, once, when this many outcomes have left the queue; at once if they have. None: never."""
        with self._lock:
            wake_at = math.inf if removed_total is None else removed_total - self.dropped_total
            due = self.taken_total >= wake_at
            self._wake_at = math.inf if due else wake_at
        if due:
            self._wake()

    def fail(self, error: BaseException) -> None:
        """End the stream with this error, after the outcomes in the queue. Only the first error counts."""
        with self._lock:
            if self._error is None:
                self._error = error
            self._condition.notify_all()

    def close(self) -> None:
        """Drop all outcomes; every consumer, also a waiting one, gets `End.CLOSED`."""
        with self._lock:
            self._closed = True
            self.times.end()
            self._outcomes.clear()
            self._condition.notify_all()

    # ------------------------------------------------------------ the taking side

    def take(self, only_epoch: int | None = None) -> Any:
        """Return the next outcome. Waits for it as long as the session lives.

        Returns `End.CLOSED` after `close`, and `End.EPOCH` once the stream has passed ``only_epoch``. Raises the error
        given to `fail` after all outcomes before it were taken.
        """
        with self._lock:
            if not (self._outcomes and self._inner_left and (only_epoch is None or only_epoch == self._epoch)):
                end = self._wait_for_outcome(only_epoch)
                if end is not None:
                    return end
            try:
                # No call between here and the count: a Ctrl-C is handled at calls, and would lose the outcome.
                outcome = self._outcomes[0]
                del self._outcomes[0]
            except IndexError:
                return End.CLOSED  # a signal handler in this very thread closed the queue
            self.taken_total += 1
            # Looked at after the wait, in which other consumers may have taken all before the epoch's last outcome.
            if self._inner_left:
                self._taken_in_epoch += 1
                self._inner_left -= 1
            else:
                self._take_at_boundary()
            self._last_taken_id = id(outcome)
            wake = self.taken_total >= self._wake_at
            if wake:
                self._wake_at = math.inf
        if wake:
            self._wake()
        return outcome

    def _take_at_boundary(self) -> None:
        """Count an outcome that may be an epoch's first or last."""
        if self.taken_total == 1:
            self.times.note_first_batch()
        if self.taken_total == 1 or self._taken_in_epoch == self._lengths[self._epoch]:
            self._enter_next_epoch()
        self._taken_in_epoch += 1
        length = self._lengths[self._epoch]
        self._inner_left = max(0, length - self._taken_in_epoch - 1)
        if self._taken_in_epoch == length:
            self._end_epoch()
            # Consumers that wait for more of this epoch alone get `End.EPOCH`.
            self._condition.notify_all()

    def _wait_for_outcome(self, only_epoch: int | None) -> End | None:
        """Return None once an outcome is in the queue; else as `take`."""
        while True:
            if only_epoch is not None and self._next_epoch > only_epoch:
                return End.EPOCH
            if self._closed:
                return End.CLOSED
            if self._outcomes:
                self.times.note_woken()
                return None
            if self._error is not None:
                raise self._error
            if self._at_boundary and self._wanted_epoch < self._next_epoch:
                # Reported, then noted: a Ctrl-C in between repeats the report, which does no harm.
                self._epoch_wanted(self._next_epoch)
                self._wanted_epoch = self._next_epoch
            with self.times.waiting():
                self._condition.wait(_LOOK_AGAIN_SECONDS)

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
        """Report the epoch, unless a batch of it failed: then it is not over, and a resume tries that batch again."""
        self._receipts.count(self.taken_total)
        if self._receipts.received_count == self._lengths[self._epoch] and self._over_epoch < self._epoch:
            self._over_epoch = self._epoch
            self._epoch_taken(self._epoch)

    # ------------------------------------------------------------ ending an epoch early

    def end_epoch(self, epoch: int) -> Ranges | None:
        """Drop the rest of this epoch: the next outcome is the next epoch's first.

        Returns the positions that were received; None, and no change, unless the stream is in the middle of the epoch.
        """
        with self._lock:
            if self._closed or self._error is not None or self._at_boundary or epoch != self._epoch:
                return None
            length = self._lengths[epoch]
            self._receipts.count(self.taken_total)
            count = min(len(self._outcomes), length - self._taken_in_epoch)
            for _ in range(count):
                self._outcomes.popleft()
            self.dropped_total += count
            received = self._receipts.end_epoch(epoch, length)
            self._taken_in_epoch, self._inner_left, self._last_taken_id = length, 0, 0
            self._over_epoch = self._ended_early = epoch
            # Consumers that wait for more of this epoch alone get `End.EPOCH`.
            self._condition.notify_all()
        return received

    def note_hook_done(self, epoch: int) -> None:
        """Release the callers of `wait_for_hook`."""
        with self._lock:
            self._hook_done = epoch
            self._condition.notify_all()

    def wait_for_hook(self, epoch: int) -> None:
        """Wait until the hook of an epoch that ended early has run, or the session has failed or ended."""
        with self._lock:
            while not (self._closed or self._error is not None or self._hook_done >= epoch):
                self._condition.wait(_LOOK_AGAIN_SECONDS)

    # ------------------------------------------------------------ undoing a take

    def take_back(self) -> None:
        """Count the last outcome as not received: its consumer could not use it.

        Called right after `take`, so it is exact with a single consumer. An epoch that is over stays over: its
        ``on_epoch_end`` may be running.
        """
        with self._lock:
            self._receipts.count(self.taken_total)
            if self._taken_in_epoch < self._lengths.get(self._epoch, 0):
                self._receipts.take_back()

    def put_back(self, outcome: Any) -> None:
        """Make the outcome the next one again: its consumer was interrupted before it could use it.

        Called right after `take`. If another consumer has taken an outcome since, this one is lost. An epoch that is
        over stays over, as with `take_back`: its last outcome counts as received, and the epoch is not reported again.
        """
        with self._lock:
            if self._closed or self._last_taken_id != id(outcome):
                return
            self._receipts.count(self.taken_total)
            if self._taken_in_epoch < self._lengths[self._epoch]:
                self._receipts.put_back()
            self._outcomes.appendleft(outcome)
            self.taken_total -= 1
            self._taken_in_epoch -= 1
            self._inner_left = 0  # the next take looks for the boundary
            self._condition.notify_all()

    # ------------------------------------------------------------ asking

    def received(self) -> Received:
        """A consistent snapshot of the positions that the consumers have received."""
        with self._lock:
            self._receipts.count(self.taken_total)
            return self._receipts.received()

    def raise_failure(self) -> None:
        """Raise the error given to `fail`, if there is one, also while outcomes stand before it."""
        if self._error is not None:
            raise self._error

    @property
    def removed_total(self) -> int:
        """Outcomes that were taken or dropped."""
        return self.taken_total + self.dropped_total

    @property
    def next_epoch(self) -> int:
        """The epoch of the next outcome."""
        with self._lock:
            return self._next_epoch

    @property
    def progress(self) -> tuple[int, int, int, int]:
        """The epoch, its outcomes taken, its length (0: not known yet), and the number of outcomes in the queue."""
        with self._lock:
            return self._epoch, self._taken_in_epoch, self._lengths.get(self._epoch, 0), len(self._outcomes)
