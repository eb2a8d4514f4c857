"""Produces what holds a training back, for real, and prints the verdict that is given.

python -m tests.benchmarks.verdicts [--cause TEXT] [--seconds 45]

Each case runs a training loop beside two worker processes. The exit code is 1 if a verdict names another cause.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click
import numpy as np

from enqueuer import Cause, SequenceEnqueuer, SequenceSpec, Verdict

WORKERS = 2


class Work:
    """Batches that compute, or only wait, for some time; one index takes longer."""

    def __init__(self, computed: float, waited: float = 0.0, late: float = 0.0) -> None:
        self.computed, self.waited, self.late = computed, waited, late

    def __len__(self) -> int:
        return 200

    def __getitem__(self, index: int) -> Any:
        end = time.thread_time() + self.computed
        while time.thread_time() < end:
            pass
        time.sleep(self.waited + (self.late if index % 50 == 10 else 0.0))
        return np.full(100, index)


@dataclass(frozen=True)
class Case:
    """``step``: seconds of the trainer's own work a batch. ``beside``: runs in a thread of the trainer."""

    expected: Cause
    work: dict[str, float] = field(default_factory=dict)
    step: float = 0.005
    beside: Callable[[threading.Event], None] | None = None


def hold_interpreter(stop: threading.Event) -> None:
    """Python code that gives up the interpreter only when it must."""
    while not stop.is_set():
        sum(range(10_000))


CASES = {
    "busy workers": Case(Cause.WORKERS, {"computed": 0.02}),
    "a slow trainer": Case(Cause.NOTHING, {"computed": 0.005}, step=0.05),
    "one late index": Case(Cause.ORDER, {"computed": 0.001, "late": 2.0}),
    "an interpreter that is held": Case(Cause.INTERPRETER, {"computed": 0.0005}, step=0.0, beside=hold_interpreter),
}


def train(case: Case, seconds: float) -> Verdict:
    """Train for so long; returns the verdict at the end."""
    stop = threading.Event()
    thread = threading.Thread(target=case.beside, args=(stop,)) if case.beside is not None else None
    spec = SequenceSpec("tests.benchmarks.verdicts:Work", **case.work)
    try:
        with SequenceEnqueuer(spec, use_multiprocessing=True) as enq:
            enq.start(WORKERS)
            batches = enq.get()
            next(batches)
            if thread is not None:
                thread.start()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                next(batches)
                time.sleep(case.step)
            return enq.verdict()
    finally:
        stop.set()


@click.command()
@click.option("--seconds", default=45.0, show_default=True, help="Of each case; a verdict needs 30.")
@click.option("--cause", "wanted", default="", help="Only cases whose name has this in it.")
def main(seconds: float, wanted: str) -> None:
    """Print a line for each case."""
    right = True
    for name, case in CASES.items():
        if wanted in name:
            verdict = train(case, seconds)
            right &= verdict.cause is case.expected
            click.echo(f"{name}: {verdict}{'' if verdict.cause is case.expected else f'  (not {case.expected.value})'}")
    raise SystemExit(not right)


if __name__ == "__main__":
    main()
