"""How much memory there is, and may still be taken, by the machine and by the control groups this process is in.

Shared memory counts as memory. Beyond the machine's a write fails cleanly; beyond a control group's limit the kernel
kills a process of the group instead, so it has to be looked up before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Of version 2, then of version 1: the files with a group's limit and its present use, and what stands before the keys
# of its statistics that count the groups below as well.
_UNIFIED = ("memory.max", "memory.current", "")
_LEGACY = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def available_bytes(root: Path = Path("/")) -> int | None:
    """The smallest of what machine and control groups have left; None where neither says (not Linux).

    ``root`` is for tests.
    """
    figures = [*_machine(root, "MemAvailable:"), *(left for _, left in _groups(root))]
    return max(0, min(figures)) if figures else None


def total_bytes(root: Path = Path("/")) -> int:
    """The smallest of the machine's memory and the control groups' limits."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # all that macOS says
    return min([machine, *_machine(root, "MemTotal:"), *(limit for limit, _ in _groups(root))])


def _machine(root: Path, key: str) -> Iterator[int]:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith(key):
            yield int(line.split()[1]) * 1024


def _groups(root: Path) -> Iterator[tuple[int, int]]:
    """The limit of each group from this process's own up to the top, and what it has left."""
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, group = line.split(":", 2)
        if number == "0":
            yield from _limits_upwards(mounts, group, _UNIFIED)
        elif "memory" in controllers.split(","):
            yield from _limits_upwards(mounts / "memory", group, _LEGACY)


def _limits_upwards(mount: Path, group: str, version: tuple[str, str, str]) -> Iterator[tuple[int, int]]:
    limit_file, usage_file, prefix = version
    # Inside a container the path may be the host's, which is not mounted here: then only the mount itself can be read.
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        folder = mount.joinpath(*parts[:depth])
        limit, used = (_read(folder / name).strip() for name in (limit_file, usage_file))
        if limit.isdigit() and used.isdigit():
            yield int(limit), int(limit) - int(used) + _page_cache(folder, prefix)


def _page_cache(folder: Path, prefix: str) -> int:
    """What the group counts as used for copies of files, which the kernel gives up before it kills anything."""
    stat = dict(line.split(" ", 1) for line in _read(folder / "memory.stat").splitlines() if " " in line)
    return sum(int(stat.get(f"{prefix}{state}_file", 0)) for state in ("active", "inactive"))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
