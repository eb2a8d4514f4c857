"""The memory of a process tree, counted from /proc: proportional set sizes, so that a shared page counts once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from tests.support.leaks import descendants


def pss_bytes(pid: int) -> int:
    """The memory of one process: its own pages, and its share of pages mapped by others too. 0 once it has ended."""
    return _rollup(pid).get("Pss", 0)


def own_pss_bytes(pid: int) -> int:
    """The memory of one process without pages of files (libraries): its share of those depends on other processes."""
    rollup = _rollup(pid)
    return rollup.get("Pss", 0) - rollup.get("Pss_File", 0)


def _rollup(pid: int) -> dict[str, int]:
    """The lines of the kernel's summary, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}


def pss_of(pids: Iterable[int]) -> int:
    """The memory of all these processes together."""
    return sum(map(pss_bytes, pids))


def tree_pss(pid: int) -> int:
    """The memory of a process and its descendants."""
    return pss_of({pid, *descendants(pid)})


class Sampler:
    """Calls ``sample`` repeatedly in a thread while entered; ``peak`` is its largest result."""

    def __init__(self, sample: Callable[[], float], interval: float) -> None:
        self.peak = 0.0
        self._sample = sample
        self._interval = interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self.peak = max(self.peak, self._sample())

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
