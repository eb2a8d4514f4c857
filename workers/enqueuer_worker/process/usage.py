"""This process's use of the machine. The kernel is asked at each heartbeat, so a batch costs nothing.

The verdict needs it beside the compute times: do workers compute or wait for data, and do their batches wait for the
network?
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from enqueuer.host import resident_bytes
from enqueuer.protocol.messages import Heartbeat

# The files `schedstat` of each thread have: nanoseconds with a processor, nanoseconds of waiting for one, time slices.
_THREADS = Path("/proc/self/task")
_READS = Path("/proc/self/io")


class Usage:
    """The figures of one process. The I/O loop owns it, and says at each heartbeat whether batches are on their way."""

    def __init__(self, now: float) -> None:
        self._noted_at = now
        self._sending_seconds = 0.0

    def note_sending(self, is_sending: bool, now: float) -> None:
        """Note whether batches are on their way now, with nothing left to compute.

        The present moment stands for the time since the last call: a heartbeat does not come because of a batch.
        """
        if is_sending:
            self._sending_seconds += now - self._noted_at
        self._noted_at = now

    def told_in(self, beat: Heartbeat) -> Heartbeat:
        """The heartbeat, with the present figures."""
        return beat._replace(
            cpu_seconds=_processor_seconds(),
            read_bytes=_read_bytes(),
            sending_seconds=self._sending_seconds,
            memory_bytes=resident_bytes(),
        )


def _processor_seconds() -> float:
    """Seconds with a processor, ended children included, and seconds of threads waiting for a free one.

    Two processes on one processor both compute all of the time, though each has it for half. The waits of all threads
    count, since the compute thread may wait for the interpreter while its holder waits for a processor.
    """
    waited_ns = 0
    try:
        for thread in _THREADS.iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                waited_ns += int((thread / "schedstat").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):  # not Linux
        pass
    return sum(os.times()[:4]) + waited_ns / 1e9


def _read_bytes() -> int:
    """Bytes read from files and pipes, and from a disk for pages of mapped files; 0 where unknown."""
    try:
        pairs = [line.split(b":") for line in _READS.read_bytes().splitlines()]
        counts = {name: int(count) for name, count in pairs}
        return max(counts[b"rchar"], counts[b"read_bytes"])
    except (OSError, KeyError, ValueError):  # not Linux, or not permitted
        return 0
