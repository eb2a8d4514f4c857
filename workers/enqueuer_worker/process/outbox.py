"""The outbox of the compute thread: events on their way into the I/O loop. Small batches leave together.

    compute thread ───── add ──► finished batches ──┐
    any thread, to log ─ put ──► events ────────────┴── collect ──► I/O loop

A batch waits for others until one of these holds: no leases are left to compute; no more are left than batches wait, so
that the answer to the message finds the worker busy (not with items below `_WORTH_A_MESSAGE`); the batch has waited
`COALESCE_SECONDS`, or an item took half of that lately; `COALESCE_BYTES` are waiting.

There are no locks here: a user's ``__del__`` may print at any allocation, even while a lock is held, and printed lines
come here. One thread appends to a deque and another one empties it; `Waker` explains why no wake-up is lost.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque
from enum import Enum, auto
from itertools import groupby
from typing import Any

from enqueuer.protocol.messages import Epoch
from enqueuer_worker.core.events import Computed, Event

# A message for each batch costs both ends 0.5 ms of processor time together, beside an item of 5 ms 0.3 ms more than
# one for two. The wait costs nothing: a trainer either waits for workers anyway, or has batches ready. Where an item
# took half of this lately, no batch waits: the next item may take long, and nobody looks until it ends.
COALESCE_SECONDS = 0.03
# Where items take this long, a message at half of the leases costs less than a pause until new ones come.
_WORTH_A_MESSAGE = 0.0005
# An item's time counts for this much after the next item.
_FADING = 0.97
COALESCE_BYTES = 64 * 1024
COALESCE_COUNT = 1024


class Waker:
    """Ends the poll of the I/O loop: ``fd`` is readable once a thread has called `wake`."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        self._pending = False

    def wake(self) -> None:
        """Wake the I/O loop; to be called after the news is where the loop looks for it.

        A pending wake-up suffices: the loop calls `clear` before it looks, so that look is still to come.
        """
        if not self._pending:
            self._pending = True
            with contextlib.suppress(BlockingIOError):
                os.write(self._write_fd, b"\0")

    def clear(self) -> None:
        """Take back the wake-up; the I/O loop calls it before it looks for news."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 1024)
        self._pending = False


# One batch: its session, its epoch, its lease, the batch, and when it was started and ended, in seconds by the
# monotonic clock. A bare tuple, since one is made for each batch.
Finished = tuple[bytes, Epoch, int, Any, float, float]


class Followup(Enum):
    """The compute thread's duty after it has added a batch."""

    NOTHING = auto()  # the batch waits with others
    NEW_DEADLINE = auto()  # it is the first to wait: a loop in the I/O thread must learn the new deadline
    SEND = auto()  # all waiting batches are due: run the loop


class Outbox:
    """Events for the I/O loop, which empties it. The compute thread and the loggers of any thread fill it."""

    def __init__(self, waker: Waker) -> None:
        self.waker = waker
        self._events: deque[Event] = deque()
        self._finished: deque[Finished] = deque()
        # Whether the waiting batches are due. The compute thread sets it. The loop clears it before it takes them, and
        # sets it if some are left.
        self._complete = False
        # Written by the compute thread only: start, number and bytes of the batches since it last set `_complete`.
        self._first_started = math.inf
        self._count = self._bytes = 0
        # Seconds of the longest item lately.
        self._longest = 0.0

    def put(self, event: Event) -> None:
        """Hand over an event and wake the loop."""
        self._events.append(event)
        self.waker.wake()

    def add(self, finished: Finished, nbytes: int, *, left: int) -> Followup:
        """Hand over a batch; ``left`` leases are still to be computed. `Followup` says when it is due."""
        self._finished.append(finished)
        _, _, _, _, started, ended = finished
        first = self._first_started == math.inf
        if first:
            self._first_started = started
        self._count += 1
        self._bytes += nbytes
        longest = self._longest = max(ended - started, _FADING * self._longest)
        late = ended - self._first_started >= COALESCE_SECONDS or longest >= COALESCE_SECONDS / 2
        is_half = left <= self._count and longest >= _WORTH_A_MESSAGE
        if late or is_half or not left or self._bytes >= COALESCE_BYTES:
            self._first_started = math.inf
            self._count = self._bytes = 0
            self._complete = True
            return Followup.SEND
        return Followup.NEW_DEADLINE if first else Followup.NOTHING

    def due(self) -> float:
        """When the I/O loop is to take the waiting batches even if no more were added; infinite if none waits."""
        return self._finished[0][4] + COALESCE_SECONDS if self._finished else math.inf

    def collect(self, now: float) -> list[Event]:
        """Take all due events; batches of one epoch come as one event."""
        events: list[Event] = []
        while self._events:
            events.append(self._events.popleft())
        if self._complete or (self._finished and now >= self.due()):
            self._complete = False
            events += self._group()
        return events

    def _group(self) -> list[Event]:
        events: list[Event] = []
        # A message has its limit, so the rest follows in the next round.
        taken = [self._finished.popleft() for _ in range(min(len(self._finished), COALESCE_COUNT))]
        # By the Epoch object: each session has its own.
        for _, group in groupby(taken, lambda finished: id(finished[1])):
            # A list of known length: `_indices` of the control codec says why.
            sessions, epochs, leases, batches, started, ended = zip(*list(group), strict=True)
            busy = sum(ended) - sum(started)
            events.append(Computed(sessions[0], epochs[0].epoch, epochs[0].generation, leases, batches, busy))
        if self._finished:
            self._complete = True
            self.waker.wake()
        return events
