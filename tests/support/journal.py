"""A journal file in which Sequences in any process of this host record their calls, and gates that hold them."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """One recorded event. ``at`` is the monotonic clock, which all processes of a Linux host share."""

    event: str
    index: int
    version: int
    pid: int
    thread: int
    in_main_thread: bool
    at: float


class Journal:
    """Append-only; a line is one ``write``, so that lines of several processes never mix."""

    def __init__(self, path: str) -> None:
        self.path = path

    def note(self, event: str, index: int = -1, version: int = 0) -> None:
        thread = threading.current_thread()
        in_main_thread = int(thread is threading.main_thread())
        line = f"{event} {index} {version} {os.getpid()} {thread.ident} {in_main_thread} {time.monotonic()}\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def entries(self, event: str, version: int | None = None) -> list[Entry]:
        """All entries of this event (and Sequence version, if given), in the order in which they were written."""
        if not Path(self.path).exists():
            return []
        parsed = [_parsed(line) for line in Path(self.path).read_text().splitlines()]
        return [entry for entry in parsed if entry.event == event and version in (None, entry.version)]

    def requested(self, version: int | None = None) -> list[int]:
        """The index of each call of ``__getitem__``."""
        return [entry.index for entry in self.entries("item", version)]

    def distinct_requests(self) -> set[tuple[int, int]]:
        """Version and index of each call of ``__getitem__``, each once.

        On a busy machine a queueing lease moves to an idle worker while the first one begins it: one call more.
        """
        return {(entry.version, entry.index) for entry in self.entries("item")}

    def epoch_ends(self) -> list[Entry]:
        """The calls of ``on_epoch_end`` in this very process (a spec's workers replay them in theirs)."""
        return [entry for entry in self.entries("epoch_end") if entry.pid == os.getpid()]


def _parsed(line: str) -> Entry:
    event, index, version, pid, thread, in_main_thread, at = line.split()
    return Entry(event, int(index), int(version), int(pid), int(thread), in_main_thread == "1", float(at))


class Gate:
    """A gate, closed until a process opens it, for every process that knows its path."""

    def __init__(self, path: str) -> None:
        self.path = path

    def open(self) -> None:
        Path(self.path).touch()

    def wait(self, deadline: float = 30.0) -> None:
        """Wait until the gate opens. The deadline only keeps a broken test from leaving a process behind."""
        end = time.monotonic() + deadline
        while not Path(self.path).exists() and time.monotonic() < end:
            time.sleep(0.005)
