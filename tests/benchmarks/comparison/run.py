"""Runs contestants in turn, each in an interpreter of its own with a deadline; nothing of theirs stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.comparison.contestants import CONTESTANTS, WORKERS
from tests.benchmarks.comparison.process_tree import become_subreaper, tree
from tests.benchmarks.comparison.results import Cell, Measurement, Results
from tests.support.remote import REPOSITORY, environment

# Beside the timed part: Ray takes ten seconds to start and five to stop, and several times that on a busy machine.
_DEADLINE_SECONDS = 90.0
# Where a batch takes this long, a batch more or less at the end of a short run would be several percent.
_LONGER = {"jpeg": 3.0, "sleep20": 1.5}
_REASON_LENGTH = 160


class ContestantError(Exception):
    """It gave no measurement; the message says why."""


def cells(
    kinds: Sequence[str],
    names: Sequence[str],
    depths: Sequence[int | None],
    workers: int = WORKERS,
    step_ms: float = 0.0,
) -> list[Cell]:
    """What is measured: each once, even where a contestant's default is one of the depths, or depth means nothing.

    256 in flight is for small batches alone: of the others they would take gigabytes.
    """
    wanted = (
        Cell(kind, name, depth, workers, step_ms).resolved()
        for kind in kinds
        for depth in depths
        for name in names
        if kind in CONTESTANTS[name].kinds and (depth != 256 or kind == "small")
    )
    return list(dict.fromkeys(wanted))


def run_all(wanted: Iterable[Cell], runs: int, seconds: float, results: Results, say: Callable[[str], None]) -> None:
    """Round after round of one kind's contestants, so that all of them see the same machine."""
    become_subreaper()
    by_kind: dict[str, list[Cell]] = {}
    for cell in wanted:
        by_kind.setdefault(cell.kind, []).append(cell)
    for kind, contestants in by_kind.items():
        failed: set[Cell] = set()
        for number in range(1, runs + 1):
            for cell in contestants:
                if cell in failed:
                    continue
                try:
                    measurement = run(cell, seconds * _LONGER.get(kind, 1.0))
                except ContestantError as error:
                    failed.add(cell)
                    results.failures[cell] = str(error)
                    say(f"{kind} {number}/{runs} {cell.contestant} ({cell.depth or 'default'}): {error}")
                else:
                    results.add(cell, measurement)
                    rate = measurement.batches_per_second
                    say(f"{kind} {number}/{runs} {cell.contestant} ({cell.depth or 'default'}): {rate:.0f} batches/s")


def run(cell: Cell, seconds: float) -> Measurement:
    """One measurement in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        result, log = Path(folder, "result"), Path(folder, "log")
        command = [sys.executable, "-m", f"{__package__}.measure", json.dumps(asdict(cell)), str(seconds), str(result)]
        # Sockets, keys and Ray's logs go with the directory, whatever became of their owner.
        variables = {**environment(), "TMPDIR": folder, **CONTESTANTS[cell.contestant].variables}
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command, cwd=REPOSITORY, env=variables, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )
        ended = True
        try:
            process.wait(_DEADLINE_SECONDS + seconds)
        except subprocess.TimeoutExpired:
            ended = False
        finally:
            end_below(process)
        if result.exists():
            return Measurement(**json.loads(result.read_text()))
        raise ContestantError(reason(log.read_text(errors="replace")) if ended else "no result before the deadline")


def end_below(process: subprocess.Popen[bytes]) -> None:
    """Kills the contestant and all that it started, by their ids; what it orphaned has become ours."""
    for _ in range(5):  # one that is killed may have started another meanwhile
        left = [stat.pid for stat in tree(os.getpid()) if stat.pid != os.getpid()]
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        with suppress(ChildProcessError):
            while os.waitpid(-1, 0)[0]:
                pass


def reason(log: str) -> str:
    """The last line of a program's output that says what went wrong."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line.split(":")[0]]
    return (errors or lines or ["it ended without a word"])[-1][:_REASON_LENGTH]
