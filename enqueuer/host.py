"""The limits of this process on this machine: processors, memory, open files; and whether it is a container.

Memory, shared memory included, is bounded by the machine and by the process's control groups. Beyond the machine's
memory an allocation fails cleanly; beyond a control group's limit the kernel kills a process of the group, so the limit
is looked up first.

A trainer opens some files for each worker's connections and one for each slab of shared memory; a worker opens two for
each slab. There is a slab for each worker and batch size: 128 workers can have a thousand. So the soft limit of open
files is raised, and the last descriptors below it are reserved:

    0 ─── slabs, connections, files ───┬─── connections, files ───┬─── the user's files ───┐
                               limit - 2 * reserve          limit - reserve              limit
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from enqueuer.errors import ConfigurationError

# The least that a worker process has to itself: a third of what the interpreter, NumPy and this library take.
_LEAST_WORKER_BYTES = 16_000_000
# More than any fleet needs. select() in user code fails for descriptors from 1024 on, but only large fleets, or batches
# of many sizes on many workers, open so many.
_WANTED_FILES = 65_536
# Fewer serve only a handful of remote workers, with two connections each.
_LEAST_FILES = 128
# A quarter of the descriptors, and at most this number, is reserved for the user's own files.
_MOST_RESERVED = 1_024


def usable_cpus() -> int:
    """The number of CPUs this process may run on; on Linux a control group or `taskset` may allow fewer than exist."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_container() -> bool:
    """Whether this machine is a container of Docker, whose host name nothing outside of its networks can resolve."""
    return Path("/.dockerenv").exists()


# Control groups of version 2 and of version 1: the file with a group's limit, the file with its present use, and the
# prefix of those keys of its statistics that include the groups below.
_UNIFIED = ("memory.max", "memory.current", "")
_LEGACY = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def available_bytes(root: Path = Path("/")) -> int | None:
    """Bytes that the machine and each control group have left, whichever is least; None if unknown (not Linux).

    Tests pass another ``root``.
    """
    figures = [*_machine(root, "MemAvailable:"), *(left for _, left in _groups(root))]
    return max(0, min(figures)) if figures else None


def total_bytes(root: Path = Path("/")) -> int:
    """The machine's memory or a control group's limit, whichever is least."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # macOS knows only this
    return min([machine, *_machine(root, "MemTotal:"), *(limit for limit, _ in _groups(root))])


def check_room(processes: int) -> None:
    """Raise ConfigurationError if so many worker processes cannot fit this machine's memory, whatever they load."""
    memory = total_bytes()
    most = memory // _LEAST_WORKER_BYTES
    if processes > most:
        raise ConfigurationError(
            f"{processes} worker processes do not fit this machine: each takes {_LEAST_WORKER_BYTES // 10**6} MB or "
            f"more, and it has {memory / 1e9:.1f} GB, so {most} at most; one a CPU ({usable_cpus()}) is usual"
        )


def resident_bytes() -> int:
    """The memory that this process has now, shared memory included; 0 if unknown (not Linux)."""
    fields = _read(Path("/proc/self/statm")).split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def _machine(root: Path, key: str) -> Iterator[int]:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith(key):
            yield int(line.split()[1]) * 1024


def _groups(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and free bytes of each control group, from this process's own up to the top."""
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, group = line.split(":", 2)
        if number == "0":
            yield from _limits_upwards(mounts, group, _UNIFIED)
        elif "memory" in controllers.split(","):
            yield from _limits_upwards(mounts / "memory", group, _LEGACY)


def _limits_upwards(mount: Path, group: str, version: tuple[str, str, str]) -> Iterator[tuple[int, int]]:
    limit_file, usage_file, prefix = version
    # Inside a container the path may be the host's, which is not mounted: then only the mount itself can be read.
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        folder = mount.joinpath(*parts[:depth])
        limit, used = (_read(folder / name).strip() for name in (limit_file, usage_file))
        if limit.isdigit() and used.isdigit():
            yield int(limit), int(limit) - int(used) + _page_cache(folder, prefix)


def _page_cache(folder: Path, prefix: str) -> int:
    """Bytes that the group counts as used for cached files; the kernel drops them before it kills a process."""
    stat = dict(line.split(" ", 1) for line in _read(folder / "memory.stat").splitlines() if " " in line)
    return sum(int(stat.get(f"{prefix}{state}_file", 0)) for state in ("active", "inactive"))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def raise_file_limit(*, for_remote: bool = False) -> int:
    """Raise this process's soft limit of open files as far as allowed; returns the new limit.

    Raises OSError if ``for_remote`` and the limit is too low for any fleet of remote workers.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS has a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if for_remote and soft != resource.RLIM_INFINITY and soft < _LEAST_FILES:
        raise OSError(
            f"this process may open {soft} files, too few for remote workers, each of which takes two connections; "
            f"raise the limit (ulimit -n {_LEAST_FILES} or more)"
        )
    return _WANTED_FILES if soft == resource.RLIM_INFINITY else soft


def is_among_last(descriptor: int) -> bool:
    """Whether a new descriptor (the lowest that was free) is one of those reserved for connections and user files.

    The reserve is twice that of `ConnectionLimit`: slabs stay open, so they would displace connections.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and descriptor >= limit - 2 * reserved_files(limit)


def reserved_files(limit: int) -> int:
    """The number of descriptors, out of ``limit``, that are reserved for the user's own files."""
    return min(limit // 4, _MOST_RESERVED)
