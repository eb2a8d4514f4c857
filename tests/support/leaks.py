"""The resources of a process, counted from /proc: a stopped run must leave none behind."""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from enqueuer.memory import slab_exchange

_PROC = Path("/proc")


@dataclass(frozen=True)
class Resources:
    """A snapshot of this process. It has sets, so that a failure names each resource."""

    threads: frozenset[str]
    native_threads_count: int
    descriptors: tuple[str, ...]
    processes: frozenset[int]
    mappings_count: int
    files: frozenset[str]

    def beyond(self, before: Resources) -> list[str]:
        """The resources beyond those of ``before``, in words; empty if nothing was left behind."""
        left = [f"thread {name}" for name in sorted(self.threads - before.threads)]
        left += [f"process {pid}: {_command(pid)}" for pid in sorted(self.processes - before.processes)]
        left += [f"file {name}" for name in sorted(self.files - before.files)]
        if self.native_threads_count > before.native_threads_count:
            left.append(f"{self.native_threads_count - before.native_threads_count} native threads")
        if len(self.descriptors) > len(before.descriptors):
            left.append(f"descriptors {self.descriptors}, before {before.descriptors}")
        if self.mappings_count > before.mappings_count:
            left.append(f"{self.mappings_count - before.mappings_count} mappings of shared memory")
        return left


def resources(apart_from: int | None = None) -> Resources:
    """A snapshot now, without the process ``apart_from`` and its descendants, which are the test's own."""
    spared = {apart_from, *descendants(apart_from)} if apart_from is not None else set()
    return Resources(
        threads=frozenset(f"{thread.name} {thread.ident}" for thread in threading.enumerate()),
        native_threads_count=len(list((_PROC / "self" / "task").iterdir())),
        descriptors=_descriptors(),
        processes=frozenset(descendants(os.getpid())) - spared,
        mappings_count=_shared_mappings_count(),
        files=_files(),
    )


def open_descriptors() -> frozenset[tuple[str, str]]:
    """The number and the target of each open descriptor, without those that only garbage holds."""
    gc.collect()
    found = set()
    for entry in (_PROC / "self" / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing
            found.add((entry.name, str(entry.readlink())))
    return frozenset(found)


def descendants(pid: int) -> set[int]:
    """Children of ``pid``, their children and so on, zombies included."""
    children: dict[int, list[int]] = {}
    for child, (parent, _) in _process_table().items():
        children.setdefault(parent, []).append(child)
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            found.add(child)
            waiting.append(child)
    return found


def alive(pids: set[int]) -> set[int]:
    """The processes that still run. A zombie does not count: pid 1 collects orphans in its own time."""
    table = _process_table()
    return {pid for pid in pids if pid in table and table[pid][1] not in "ZX"}


def _process_table() -> dict[int, tuple[int, str]]:
    """pid → (parent, state) of every visible process."""
    table = {}
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The command in parentheses may hold spaces and parentheses itself.
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        table[int(entry.name)] = (int(parent), state)
    return table


def _descriptors() -> tuple[str, ...]:
    targets = []
    for descriptor in (_PROC / "self" / "fd").iterdir():
        try:
            targets.append(str(descriptor.readlink()))
        except OSError:
            continue  # the one that listed the directory
    return tuple(sorted(targets))


def _shared_mappings_count() -> int:
    maps = (_PROC / "self" / "maps").read_text().splitlines()
    return sum("/memfd:" in line or "/dev/shm/" in line for line in maps)


def _files() -> frozenset[str]:
    """All files of the temporary directory, which should be the test's own, and this process's sockets in /dev/shm."""
    return frozenset(map(str, (*Path(tempfile.gettempdir()).iterdir(), *sockets_left())))


def sockets_left() -> list[Path]:
    """The files of sockets that this process made in /dev/shm and that still exist.

    All programs share that directory: a snapshot of it would show the sockets of other trainers, and those that a
    killed trainer leaves until the next one starts.
    """
    return [path for path in _sockets_made if path.exists()]


_sockets_made: list[Path] = []


def _note_new_path(name: str | None = None, common_path: Callable[..., Path] = slab_exchange.common_path) -> Path:
    path = common_path(name)
    if name is None:
        _sockets_made.append(path)
    return path


slab_exchange.common_path = _note_new_path


def _command(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "gone meanwhile"
