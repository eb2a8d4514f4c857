"""What the compute thread has finished, on its way to the I/O thread: small batches leave together.

Without locks: a user's ``__del__`` may print at any allocation, also inside of one, and printing ends up here. Deques
are appended to by one thread and emptied by the other, and `Waker` shows why no wake-up is lost.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque
from typing import Any, NamedTuple

from enqueuer_worker.worker_events import Computed, Event

# Below this a message a batch would cost both ends more than the batch; the trainer does not notice 2 ms.
COALESCE_SECONDS = 0.002
COALESCE_BYTES = 64 * 1024
COALESCE_COUNT = 1024


class Waker:
    """Gets the I/O thread out of its poll. ``fd`` is readable when somebody has called `wake`."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        self._pending = False

    def wake(self) -> None:
        """Called after the news was put where the I/O thread looks for it.

        Who finds a wake-up pending need not add one: `clear` comes before the look, so that look is still to come.
        """
        if not self._pending:
            self._pending = True
            with contextlib.suppress(BlockingIOError):
                os.write(self._write_fd, b"\0")

    def clear(self) -> None:
        """Called by the I/O thread before it looks for news."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 1024)
        self._pending = False


class Finished(NamedTuple):
    """One batch. Times are in seconds by the monotonic clock."""

    session: bytes
    epoch: int
    generation: int
    lease: int
    batch: Any
    started: float
    ended: float


class Outbox:
    """Filled by the compute thread (and by anyone who logs), emptied by the I/O thread."""

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._events: deque[Event] = deque()
        self._finished: deque[Finished] = deque()
        self._complete = False
        # The compute thread's own view of what it added since it last said "complete".
        self._first_started = math.inf
        self._bytes = 0

    def put(self, event: Event) -> None:
        """Hand over an event, at once."""
        self._events.append(event)
        self._waker.wake()

    def add(self, finished: Finished, nbytes: int, *, more_to_come: bool) -> None:
        """Hand over a batch: at once if it is the last for now, took long or is large; soon otherwise."""
        self._finished.append(finished)
        first = self._first_started == math.inf
        if first:
            self._first_started = finished.started
        self._bytes += nbytes
        waited = finished.ended - self._first_started
        if not more_to_come or waited >= COALESCE_SECONDS or self._bytes >= COALESCE_BYTES:
            self._first_started = math.inf
            self._bytes = 0
            self._complete = True
            self._waker.wake()
        elif first:
            # The next item may take for ever; the I/O thread has to know that it must not wait for it.
            self._waker.wake()

    def due(self) -> float:
        """When the I/O thread should take what is there, complete or not."""
        return self._finished[0].started + COALESCE_SECONDS if self._finished else math.inf

    def collect(self, now: float) -> list[Event]:
        """What the core has to hear; batches of one epoch and generation as one event."""
        events: list[Event] = []
        while self._events:
            events.append(self._events.popleft())
        if self._complete or now >= self.due():
            self._complete = False
            events += self._group()
        return events

    def _group(self) -> list[Event]:
        groups: dict[tuple[bytes, int, int], list[Finished]] = {}
        # The rest comes with the next look: a message has its limit, and the other end is to start on this one.
        for _ in range(min(len(self._finished), COALESCE_COUNT)):
            finished = self._finished.popleft()
            groups.setdefault(finished[:3], []).append(finished)
        if self._finished:
            self._complete = True
            self._waker.wake()
        return [
            Computed(
                *key,
                leases=tuple(finished.lease for finished in group),
                batches=tuple(finished.batch for finished in group),
                busy=sum(finished.ended - finished.started for finished in group),
            )
            for key, group in groups.items()
        ]
