"""The three places where a Sequence can be computed, behind one way to start them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from enqueuer import SequenceEnqueuer, Timing
from tests.support.sequences import as_spec

# The remote worker says Hello at this pace, so it is also the pause between two sessions on one address.
_REMOTE_TIMING = Timing(heartbeat_interval=0.2)


class Placement:
    """One placement: ``name`` is "threads", "processes" or "remote". `stop_all` stops all its enqueuers.

    By default two threads compute, two remote processes, or one local process: its start is most of what a test costs,
    so a test asks for a second one where that proves more.
    """

    # The remote worker program of the tests has two processes.
    remote_slots_count = 2

    def __init__(self, name: str, address: str | None = None) -> None:
        self.name = name
        self._address = address
        self._made: list[SequenceEnqueuer] = []

    @property
    def separate(self) -> bool:
        """Whether batches are computed outside this process."""
        return self.name != "threads"

    def slots_count(self, workers: int) -> int:
        return self.remote_slots_count if self.name == "remote" else workers

    def enqueuer(self, sequence: Any, **options: Any) -> SequenceEnqueuer:
        """Make an enqueuer. A remote placement gets the Sequence's spec: trainer and workers build one each."""
        made = self.forgotten(sequence, **options)
        self._made.append(made)
        return made

    def forgotten(self, sequence: Any, **options: Any) -> SequenceEnqueuer:
        """Make an enqueuer that only the caller refers to, and must stop."""
        if self.name == "remote":
            return SequenceEnqueuer(as_spec(sequence), bind=self._address, timing=_REMOTE_TIMING, **options)
        return SequenceEnqueuer(sequence, self.name == "processes", **options)

    def start(
        self, enqueuer: SequenceEnqueuer, workers: int | None = None, max_queue_size: int = 10, **more: Any
    ) -> None:
        """Start the enqueuer. Remote workers join by themselves, as many as there are."""
        if workers is None:
            workers = 1 if self.name == "processes" else 2
        enqueuer.start(0 if self.name == "remote" else workers, max_queue_size, **more)

    def running(
        self, sequence: Any, workers: int | None = None, max_queue_size: int = 10, **options: Any
    ) -> SequenceEnqueuer:
        made = self.enqueuer(sequence, **options)
        self.start(made, workers, max_queue_size)
        return made

    def stop_all(self) -> None:
        while self._made:
            self._made.pop().stop()


def take(stream: Iterator[Any], count: int) -> list[Any]:
    """The next ``count`` batches (fewer if the stream ends)."""
    return list(islice(stream, count))


def passes(length: int, epochs: int, first: int = 0) -> list[tuple[int, int]]:
    """The batches of a `Journaled` Sequence in that many epochs."""
    return [(version, index) for version in range(first, first + epochs) for index in range(length)]
