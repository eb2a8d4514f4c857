"""The times of one stream: how long it runs, how long its consumers wait, and both before the first batch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StreamTimes:
    """The clock of a session. Its owner's lock guards the methods; any thread may read attributes and properties."""

    def __init__(self) -> None:
        self._made_at = time.monotonic()
        self._ended_at: float | None = None
        self._waited_seconds = 0.0
        # The beginning of each wait that goes on: a wait of minutes counts before it is over.
        self._waits: list[float] = []
        self.startup_seconds = self.startup_wait_seconds = 0.0
        # Seconds of waiting after a batch was there; the time since when one is there for a present wait.
        self.late_seconds = 0.0
        self._there_since: float | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The consumer waits inside of this context."""
        started = time.monotonic()
        self._waits.append(started)
        try:
            yield
        finally:
            self._waits.remove(started)
            self._waited_seconds += time.monotonic() - started

    def note_put(self) -> None:
        """Batches are put into the empty queue now."""
        if self._waits:
            self._there_since = time.monotonic()

    def note_woken(self) -> None:
        """A consumer that waited takes a batch now."""
        since, self._there_since = self._there_since, None
        if since is not None:
            self.late_seconds += time.monotonic() - since

    def note_first_batch(self) -> None:
        """The first batch is taken now."""
        self.startup_seconds = self.elapsed_seconds
        self.startup_wait_seconds = self.wait_seconds

    def end(self) -> None:
        """The stream ends now; a second call changes nothing."""
        if self._ended_at is None:
            self._ended_at = time.monotonic()

    @property
    def is_waiting(self) -> bool:
        """Whether a consumer waits now."""
        return bool(self._waits)

    @property
    def wait_seconds(self) -> float:
        """The time that consumers have waited, summed over them."""
        now = time.monotonic()
        return self._waited_seconds + sum(now - started for started in tuple(self._waits))

    @property
    def elapsed_seconds(self) -> float:
        """The time from the beginning until now, or until the end."""
        return (time.monotonic() if self._ended_at is None else self._ended_at) - self._made_at
