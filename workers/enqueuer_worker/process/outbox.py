"""What the compute thread has finished, on its way into the I/O loop: small batches leave together.

Without locks: a user's ``__del__`` may print at any allocation, also inside of one, and printing ends up here. Deques
are appended to by one thread and emptied by the other, and `Waker` shows why no wake-up is lost.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque
from enum import Enum
from itertools import groupby
from typing import Any

from enqueuer.protocol.messages import Epoch
from enqueuer_worker.core.events import Computed, Event

# Below this a message a batch would cost both ends more than the batch; the trainer does not notice 2 ms. A batch that
# takes half of that alone is not kept back for another one.
COALESCE_SECONDS = 0.002
COALESCE_BYTES = 64 * 1024
COALESCE_COUNT = 1024


class Waker:
    """Gets whoever turns the I/O loop out of its poll. ``fd`` is readable when somebody has called `wake`."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        self._pending = False

    def wake(self) -> None:
        """Called after the news was put where the I/O loop looks for it.

        Who finds a wake-up pending need not add one: `clear` comes before the look, so that look is still to come.
        """
        if not self._pending:
            self._pending = True
            with contextlib.suppress(BlockingIOError):
                os.write(self._write_fd, b"\0")

    def clear(self) -> None:
        """Called in the I/O loop before it looks for news."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 1024)
        self._pending = False


# One batch: its session, its epoch, its lease, the batch, and when it was begun and done, in seconds by the monotonic
# clock. A bare tuple, since one is made for each batch.
Finished = tuple[bytes, Epoch, int, Any, float, float]


class Next(Enum):
    """What a batch that was added asks for."""

    NOTHING = "it waits with others"
    KNOWN = "it is the first that waits: whoever turns the I/O loop has to know until when"
    SENT = "all that wait are to leave now"


class Outbox:
    """Filled by the compute thread (and by anyone who logs), emptied in the I/O loop."""

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

    def add(self, finished: Finished, nbytes: int, *, more_to_come: bool) -> Next:
        """Hand over a batch: to be sent at once if it is the last for now, took long or is large; soon otherwise."""
        self._finished.append(finished)
        _, _, _, _, started, ended = finished
        first = self._first_started == math.inf
        if first:
            self._first_started = started
        self._bytes += nbytes
        late = ended - self._first_started >= COALESCE_SECONDS or ended - started >= COALESCE_SECONDS / 2
        if late or not more_to_come or self._bytes >= COALESCE_BYTES:
            self._first_started = math.inf
            self._bytes = 0
            self._complete = True
            return Next.SENT
        return Next.KNOWN if first else Next.NOTHING

    def due(self) -> float:
        """When the I/O loop should take what is there, complete or not."""
        return self._finished[0][4] + COALESCE_SECONDS if self._finished else math.inf

    def collect(self, now: float) -> list[Event]:
        """What the core has to hear; batches of one epoch as one event."""
        events: list[Event] = []
        while self._events:
            events.append(self._events.popleft())
        if self._complete or (self._finished and now >= self.due()):
            self._complete = False
            events += self._group()
        return events

    def _group(self) -> list[Event]:
        events: list[Event] = []
        # The rest comes with the next look: a message has its limit, and the other end is to start on this one.
        taken = [self._finished.popleft() for _ in range(min(len(self._finished), COALESCE_COUNT))]
        # By the Epoch itself: each session has its own.
        for _, group in groupby(taken, lambda finished: id(finished[1])):
            # A list of known length: `_indices` of the control codec says why.
            sessions, epochs, leases, batches, started, ended = zip(*list(group), strict=True)
            busy = sum(ended) - sum(started)
            events.append(Computed(sessions[0], epochs[0].epoch, epochs[0].generation, leases, batches, busy))
        if self._finished:
            self._complete = True
            self._waker.wake()
        return events
