"""A control group with a limit on memory, of either version: beyond it the kernel kills a process of the group."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path
from types import TracebackType

from tests.support.waiting import wait_until

_MOUNTS = Path("/sys/fs/cgroup")


def _parent() -> tuple[Path, int] | None:
    """The directory in which a group can be made, and the version of its interface."""
    legacy = _MOUNTS / "memory"
    if (legacy / "memory.limit_in_bytes").exists() and os.access(legacy, os.W_OK):
        return legacy, 1
    controllers = _MOUNTS / "cgroup.subtree_control"
    if controllers.exists() and "memory" in controllers.read_text().split() and os.access(_MOUNTS, os.W_OK):
        return _MOUNTS, 2
    return None


def why_no_memory_group() -> str | None:
    """The reason why this process cannot make such a group; None if it can."""
    if os.geteuid() != 0:
        return "needs root"
    found = _parent()
    if found is None:
        return f"needs a memory controller under {_MOUNTS} that can be written to"
    probe = found[0] / f"enqueuer-probe-{uuid.uuid4().hex[:6]}"
    try:
        probe.mkdir()
    except OSError as error:
        return f"needs control groups: {error}"
    probe.rmdir()
    return None


class MemoryGroup:
    """Made on entry; on exit its processes are killed, if any are left, and it is removed."""

    def __init__(self, limit_bytes: int) -> None:
        found = _parent()
        assert found is not None
        parent, self._version = found
        self._path = parent / f"enqueuer-chaos-{uuid.uuid4().hex[:6]}"
        self._limit_bytes = limit_bytes

    def add(self, pid: int) -> None:
        """Count the memory that a process, and those it starts, take from now on."""
        (self._path / "cgroup.procs").write_text(str(pid))

    def kills_count(self) -> int:
        """The number of processes of the group that the kernel has killed."""
        name = "memory.events" if self._version == 2 else "memory.oom_control"
        counts = dict(line.split() for line in (self._path / name).read_text().splitlines())
        return int(counts["oom_kill"])

    def __enter__(self) -> MemoryGroup:
        self._path.mkdir()
        limit, swap = (
            ("memory.max", "memory.swap.max") if self._version == 2 else ("memory.limit_in_bytes", "memory.swappiness")
        )
        (self._path / limit).write_text(str(self._limit_bytes))
        with contextlib.suppress(OSError):  # a kernel without swap has no such file
            (self._path / swap).write_text("0")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        wait_until(self._remove, what="the end of the processes in the control group")

    def _remove(self) -> bool:
        with contextlib.suppress(OSError):
            self._path.rmdir()
        return not self._path.exists()
