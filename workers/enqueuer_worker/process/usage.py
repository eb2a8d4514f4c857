"""What this process uses: asked of the kernel at each heartbeat, so that it costs nothing a batch.

It tells the verdict what the compute times hide: whether workers compute or wait for data, and whether their batches
wait for the network.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from enqueuer.host import resident_bytes
from enqueuer.protocol.messages import Heartbeat

# Of each thread: nanoseconds with a processor, nanoseconds of waiting for one, time slices.
_THREADS = Path("/proc/self/task")
_READS = Path("/proc/self/io")


class Usage:
    """The I/O loop's; it says at each heartbeat whether the process waits for the network."""

    def __init__(self, now: float) -> None:
        self._noted_at = now
        self._sending_seconds = 0.0

    def note_sending(self, is_sending: bool, now: float) -> None:
        """Whether, since the last call, batches were on their way and nothing was left to compute.

        The present moment stands for that time; a heartbeat's moment is no result of a batch's.
        """
        if is_sending:
            self._sending_seconds += now - self._noted_at
        self._noted_at = now

    def told_in(self, beat: Heartbeat) -> Heartbeat:
        """The heartbeat, with the present figures."""
        return replace(
            beat,
            cpu_seconds=_processor_seconds(),
            read_bytes=_read_bytes(),
            sending_seconds=self._sending_seconds,
            memory_bytes=resident_bytes(),
        )


def _processor_seconds() -> float:
    """Seconds with a processor, ended children included, and seconds in which threads waited for a free one.

    Two processes that share a processor compute all of their time, though each has it for half. All threads, since the
    compute thread waits for the interpreter while another one that has it waits for a processor.
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
    """Bytes read from files and pipes, and those that pages of mapped files took from a disk; 0 where unknown."""
    try:
        pairs = [line.split(b":") for line in _READS.read_bytes().splitlines()]
        counts = {name: int(count) for name, count in pairs}
        return max(counts[b"rchar"], counts[b"read_bytes"])
    except (OSError, KeyError, ValueError):  # not Linux, or not permitted
        return 0
