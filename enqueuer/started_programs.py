"""Ends the programs of user code in worker processes.

    supervisor ── starts a worker, with a mark in its environment
                     └─ worker ── pipelines, daemons, pools …: all inherit the mark
    the worker ends  ► its supervisor ends all programs with the worker's mark
    the supervisor ends, or is killed ► it, or the trainer, ends all programs with a mark of this supervisor

A daemon leaves its process group and its session, and keeps the mark. A program with another environment is found by
the worker's session. Descendants of these programs end, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

_MARK = "ENQUEUER_STARTED_BY"
# A program may start another one while it is being ended. A killed process takes a moment to end.
_ROUNDS = 20
_PAUSE_SECONDS = 0.002
# A resource tracker unlinks the shared memory of the others, then ends by itself.
_LAST_TO_LEAVE = b"resource_tracker"


def mark(environment: dict[str, str], supervisor: str, incarnation: str = "") -> None:
    """Mark all programs that start with this environment as those of one worker of this supervisor."""
    environment[_MARK] = f"{supervisor}/{incarnation}"


def end_programs(supervisor: str, incarnation: str = "", *, sessions: Collection[int] = ()) -> None:
    """Kill the programs with the mark of this worker, and those in these sessions.

    Without an ``incarnation`` these are the programs of all workers of the supervisor, and the workers themselves.
    Linux only; elsewhere nothing is found.
    """
    if sys.platform != "linux":
        return
    wanted = f"{_MARK}={supervisor}/{incarnation}".encode()
    for _ in range(_ROUNDS):
        found = _find(wanted, sessions)
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_SECONDS)


class _Process(NamedTuple):
    pid: int
    parent: int
    session: int


def _find(wanted: bytes, sessions: Collection[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    found: list[int] = []
    for process in _processes():
        children.setdefault(process.parent, []).append(process.pid)
        if process.session in sessions or _is_marked(process.pid, wanted):
            found.append(process.pid)
    programs: set[int] = set()
    while found:
        pid = found.pop()
        if pid not in programs:
            programs.add(pid)
            found += children.get(pid, ())
    return {pid for pid in programs - {os.getpid()} if _LAST_TO_LEAVE not in _read(pid, "cmdline")}


def _processes() -> Iterator[_Process]:
    """This user's processes that have not ended."""
    user = os.geteuid()
    with os.scandir("/proc") as entries:
        for entry in entries:
            with contextlib.suppress(OSError, ValueError, IndexError):
                pid = int(entry.name)
                if entry.stat().st_uid == user:
                    state, parent, _, session, *_ = _read(pid, "stat").rpartition(b")")[2].split()
                    if state not in (b"Z", b"X"):
                        yield _Process(pid, int(parent), int(session))


def _is_marked(pid: int, wanted: bytes) -> bool:
    return any(variable.startswith(wanted) for variable in _read(pid, "environ").split(b"\0"))


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
