"""What this machine allows this process: processors, memory, open files.

Memory is bounded by the machine and by the control groups of this process, and shared memory counts as memory. Beyond
the machine's memory a write fails cleanly; beyond a control group's limit the kernel kills a process of the group
instead, so the limit has to be looked up first.

A trainer opens some files for each worker's connections and one for each slab of shared memory (a worker two). The more
sizes batches have, the more slabs there are: 128 workers' come to a thousand. So the soft limit is raised, and the last
descriptors are never given to a slab, in the trainer and in the worker.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# What a fleet needs at most; select() in somebody's code cannot take descriptors from 1024 on, but only large fleets,
# and batches of many sizes on many workers, come to that.
_WANTED_FILES = 65_536
# With fewer, a handful of remote workers, two connections each, would be all.
_LEAST_FILES = 128
# Of the descriptors, what is left to the user's own files, a quarter and at most so many.
_MOST_RESERVED = 1_024


def usable_cpus() -> int:
    """Those that it may run on, where that can be told (Linux: a control group or `taskset` may leave it fewer)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def raise_file_limit(*, for_remote: bool = False) -> int:
    """Raise this process's soft limit as far as it may; returns what it is then.

    Raises OSError where that is too low for any fleet of remote workers, if it is ``for_remote``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS has a lower one of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if for_remote and soft != resource.RLIM_INFINITY and soft < _LEAST_FILES:
        raise OSError(
            f"this process may open {soft} files, too few for remote workers, each of which takes two connections; "
            f"raise the limit (ulimit -n {_LEAST_FILES} or more)"
        )
    return _WANTED_FILES if soft == resource.RLIM_INFINITY else soft


def is_among_last(descriptor: int) -> bool:
    """Whether this one, the lowest that was free, is of those that are left to connections and the user's own files.

    Twice what `ConnectionLimit` leaves: slabs stay, and would have connections give way to them.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and descriptor >= limit - 2 * reserved_files(limit)


def reserved_files(limit: int) -> int:
    """How many of ``limit`` descriptors are left to the user's own files."""
    return min(limit // 4, _MOST_RESERVED)
