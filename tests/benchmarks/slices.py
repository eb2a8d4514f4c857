"""Contestants that all live at once and work in turns of half a second: python -m tests.benchmarks.slices

The comparison starts each contestant anew and measures it for some seconds; on a virtual machine whose speed changes
by a third from one minute to the next, a hundred such rounds tell 5 %. Here a slice of one contestant stands beside a
slice of each other, so that a minute's change meets all of them: forty rounds tell 3 %.

``--tree`` adds another checkout of this library, such as the last release's, as a contestant; its own ``tests`` package
must have the comparison. The means are of all slices, with their standard error, and beside them the ratio to each of
the first two contestants.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from tests.benchmarks.comparison.__main__ import Names
from tests.benchmarks.comparison.contestants import COMPUTE_KINDS, CONTESTANTS, TRANSPORT_KINDS, WORKERS
from tests.benchmarks.comparison.results import Cell
from tests.benchmarks.slices_program import Slice
from tests.support.remote import REPOSITORY

_PROGRAM = Path(__file__).with_name("slices_program.py")
# Time for a contestant to fill its queue, which needs the processors, before the next one's slice.
_REFILL_SECONDS = 0.1


class Contestant:
    """A running `slices_program`."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self.slices: list[Slice] = []
        self._process = process

    def wait_until_ready(self) -> None:
        if self._read() != "ready\n":
            raise click.ClickException(f"{self.name} did not start")

    def work(self, seconds: float) -> None:
        """Let it work for one slice."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        self.slices.append(Slice(**json.loads(self._read())))

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise click.ClickException(f"{self.name} has ended, with code {self._process.wait()}")
        return line

    @property
    def rates(self) -> list[float]:
        """Batches a second in each slice."""
        return [part.batches / part.seconds for part in self.slices]


@contextmanager
def running(name: str, cell: Cell, checkout: Path) -> Iterator[Contestant]:
    """The program of this checkout; its end is waited for, since it stops its workers."""
    paths = os.pathsep.join([str(checkout), str(checkout / "workers"), str(REPOSITORY)])
    # Without `-P` the directory of the program would come before the checkout.
    command = [sys.executable, "-P", str(_PROGRAM), json.dumps(asdict(cell.resolved()))]
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": paths},
        cwd=checkout,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Contestant(name, process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def lines(contestants: Sequence[Contestant]) -> Iterator[str]:
    """The table."""
    baselines = contestants[:2]
    width = max(len(contestant.name) for contestant in contestants)
    beside = "".join(f"  x {contestant.name:>12}" for contestant in baselines)
    yield f"{'':{width}}  batches/s  +-   CPU ms  switches{beside}"
    for contestant in contestants:
        rates = contestant.rates
        count = sum(part.batches for part in contestant.slices)
        error = statistics.stdev(rates) / len(rates) ** 0.5 if len(rates) > 1 else 0.0
        cpu = sum(part.cpu_seconds for part in contestant.slices) / count * 1e3
        switches = sum(part.switches for part in contestant.slices) / count
        ratios = [statistics.mean(rates) / statistics.mean(other.rates) for other in baselines]
        figures = f"{statistics.mean(rates):9.1f}  {error:3.1f}  {cpu:6.2f}  {switches:8.2f}"
        yield f"{contestant.name:{width}}  {figures}" + "".join(f"  {ratio:14.3f}" for ratio in ratios)


@click.command(help=__doc__)
@click.option("--kinds", type=Names((*COMPUTE_KINDS, *TRANSPORT_KINDS)), default="digits,crops", show_default=True)
@click.option("--contestants", type=Names(tuple(CONTESTANTS)), default="bare,pipes,enqueuer", show_default=True)
@click.option("--tree", "trees", type=click.Path(exists=True, file_okay=False, path_type=Path), multiple=True)
@click.option("--rounds", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--seconds", default=0.5, show_default=True, help="Of each slice.")
@click.option("--depth", type=click.IntRange(min=1), default=10, show_default=True, help="Batches in flight.")
@click.option("--workers", type=click.IntRange(min=1), default=WORKERS, show_default=True)
@click.option("--step-ms", default=0.0, show_default=True, help="The consumer needs a core for this long each batch.")
def main(
    kinds: list[str],
    contestants: list[str],
    trees: tuple[Path, ...],
    rounds: int,
    seconds: float,
    depth: int,
    workers: int,
    step_ms: float,
) -> None:
    for kind in kinds:
        with ExitStack() as stack:
            wanted = [(name, name, REPOSITORY) for name in contestants if kind in CONTESTANTS[name].kinds]
            wanted += [(tree.name, "enqueuer", tree.absolute()) for tree in trees]
            live = []
            for label, name, checkout in wanted:
                live.append(stack.enter_context(running(label, Cell(kind, name, depth, workers, step_ms), checkout)))
                # One after the other: none warms up beside another.
                live[-1].wait_until_ready()
                time.sleep(_REFILL_SECONDS)
            for _ in range(rounds):
                for contestant in random.sample(live, len(live)):
                    contestant.work(seconds)
                    time.sleep(_REFILL_SECONDS)
        click.echo(f"{kind}, {workers} workers, {depth} in flight, {rounds} slices of {seconds:g} s each")
        click.echo("\n".join(lines(live)) + "\n")


if __name__ == "__main__":
    main()
