"""Memory and CPU of a process and everything below it, read from /proc (Linux).

Daemons that left their parent are found too, as long as the root is a child subreaper: they are adopted by it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36
_TICKS = os.sysconf("SC_CLK_TCK")
_SHARED_FILES = ("/memfd:", "/dev/shm/")


@dataclass(frozen=True)
class Stat:
    """``cpu_ticks`` includes the children that the process has waited for."""

    pid: int
    parent: int
    cpu_ticks: int


def become_subreaper() -> None:
    """From now on, orphans below this process become its children, not init's."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def parse_stat(text: str) -> Stat:
    """A line of /proc/PID/stat. The name, in parentheses, may itself hold spaces and parentheses."""
    before, _, after = text.rpartition(")")
    fields = after.split()
    # proc(5) counts from 1 with the pid: 14 to 17 are utime, stime, cutime and cstime; here 3 is the first.
    return Stat(int(before.split(" ", 1)[0]), int(fields[1]), sum(map(int, fields[11:15])))


def below(root: int, stats: Iterable[Stat]) -> list[Stat]:
    """``root`` and all of its descendants."""
    by_parent: dict[int, list[Stat]] = {}
    found: list[Stat] = []
    for stat in stats:
        by_parent.setdefault(stat.parent, []).append(stat)
        if stat.pid == root:
            found.append(stat)
    for stat in found:  # grows meanwhile
        found += by_parent.get(stat.pid, [])
    return found


def tree(root: int) -> list[Stat]:
    """As `below`, of what runs now."""
    stats = []
    for folder in _PROC.iterdir():
        if folder.name.isdecimal():
            try:
                stats.append(parse_stat((folder / "stat").read_text()))
            except OSError:  # it ended meanwhile
                continue
    return below(root, stats)


def cpu_seconds(root: int) -> float:
    """Of user and system, of all that runs below ``root`` and of what has ended there and was waited for."""
    return sum(stat.cpu_ticks for stat in tree(root)) / _TICKS


def parse_switches(text: str) -> int:
    """The voluntary context switches of a thread, from its /proc/PID/task/TID/status."""
    _, _, rest = text.partition("\nvoluntary_ctxt_switches:")
    return int(rest.split("\n", 1)[0])


def voluntary_switches(root: int) -> int:
    """Voluntary context switches of all threads that run below ``root`` now."""
    total = 0
    for stat in tree(root):
        for file in (_PROC / str(stat.pid) / "task").glob("*/status"):
            try:
                total += parse_switches(file.read_text())
            except (OSError, ValueError):  # it ended meanwhile
                continue
    return total


def parse_busy_ticks(text: str) -> int:
    """Of /proc/stat: what all CPUs together have spent on anything but being idle, and what the host took from them."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, text.split("\n", 1)[0].split()[1:9])
    return user + nice + system + irq + softirq + steal


def machine_cpu_seconds() -> float:
    """As `cpu_seconds`, of everything on this machine."""
    return parse_busy_ticks((_PROC / "stat").read_text()) / _TICKS


def parse_rollup(text: str) -> dict[str, int]:
    """Bytes by name, of /proc/PID/smaps_rollup."""
    lines = (line.split() for line in text.splitlines())
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if len(line) == 3 and line[2] == "kB"}


def memory_bytes(root: int) -> int:
    """The proportional set sizes of all below ``root``: what two of them share counts once.

    Shared memory counts in full as soon as one of them holds it open, even where none of them has it mapped: a batch on
    its way between two processes takes as much room as one that has arrived.
    """
    own = mapped = 0
    held: dict[tuple[int, int], int] = {}
    for stat in tree(root):
        folder = _PROC / str(stat.pid)
        try:
            sizes = parse_rollup((folder / "smaps_rollup").read_text())
            held.update(_open_shared_memory(folder / "fd"))
        except OSError:
            continue
        mapped += sizes.get("Pss_Shmem", 0)
        own += sizes.get("Pss", 0) - sizes.get("Pss_Shmem", 0)
    return own + max(mapped, sum(held.values()))


def _open_shared_memory(folder: Path) -> dict[tuple[int, int], int]:
    """By device and inode, the bytes of each file in shared memory that this process has open."""
    found = {}
    for entry in folder.iterdir():
        try:
            if str(entry.readlink()).startswith(_SHARED_FILES):
                status = entry.stat()
                found[status.st_dev, status.st_ino] = status.st_blocks * 512
        except OSError:
            continue
    return found
