"""A training that prints what it takes (tests/docker/project/train.py), as seen from outside: by its log alone."""

from __future__ import annotations

import contextlib
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from tests.support.waiting import wait_until

DEADLINE_SECONDS = 300.0
_GAP = re.compile(r"gap (\d+\.\d+) s before batch")
_BATCH = re.compile(r"(?:batch|exact:) (\d+)$|^exact: (\d+)", re.MULTILINE)
_WORKERS = re.compile(r"workers (\d+)")
_VERDICT = re.compile(r"^(?:exact|WRONG): .*", re.MULTILINE)
_POLL_SECONDS = 0.3


def wait_for(condition: Callable[[], object], what: str, deadline: float = DEADLINE_SECONDS) -> None:
    """Like `wait_until`, but each look costs a process or more."""

    def looked() -> object:
        found = condition()
        if not found:
            time.sleep(_POLL_SECONDS)
        return found

    wait_until(looked, deadline, what)


class TrainingLog(ABC):
    """The training that an engine runs."""

    @abstractmethod
    def tail(self, lines: int) -> str:
        """The end of the trainer's log."""

    @abstractmethod
    def log_since(self, when: float) -> str:
        """What the trainer has logged since this time."""

    @abstractmethod
    def health(self) -> str:
        """What `enqueuer health` prints beside the trainer; empty if it cannot run."""

    def batches(self) -> int:
        """How many it has taken, give or take the twenty between two lines."""
        found = _BATCH.findall(self.tail(300))
        return int("".join(found[-1])) if found else 0

    def wait_for_batches(self, more: int) -> None:
        wanted = self.batches() + more
        wait_for(lambda: self.batches() >= wanted, f"{more} more batches")

    def workers(self) -> int:
        """Those that the trainer counts now."""
        found = _WORKERS.search(self.health())
        return int(found[1]) if found else 0

    def wait_for_workers(self, count: int) -> None:
        wait_for(lambda: self.workers() == count, f"{count} workers")

    def wait_for_verdict(self) -> str:
        """The training's last line, which says whether all was exact."""
        wait_for(lambda: _VERDICT.search(self.tail(20)), "the trainer's verdict")
        return str(_VERDICT.findall(self.tail(20))[-1])

    @contextlib.contextmanager
    def fault(self, what: str) -> Iterator[None]:
        """Prints the longest time without a batch, from the block's beginning until the stream flows after its end."""
        begun = time.time()
        yield
        self.wait_for_batches(100)
        gaps = [float(gap) for gap in _GAP.findall(self.log_since(begun))]
        longest = f"{max(gaps):.2f} s" if gaps else "below 0.1 s"
        print(f"{what}: longest gap {longest} ({time.time() - begun:.0f} s in all)", flush=True)
