"""Runs any number of schedules of the simulated cluster.

python -m tests.simulation.run --schedules 100000 [--first-seed N] [--processes 2]
python -m tests.simulation.run --seed N                 one schedule, with its story
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable

import click

from tests.support.simulation.cluster import ScheduleFailed, check_schedule, tell_schedule

_CHUNK = 50
_PROGRESS_SECONDS = 10.0


def check_seed(seed: int) -> ScheduleFailed | None:
    try:
        check_schedule(seed)
    except ScheduleFailed as failure:
        return failure
    return None


def run_many(seeds: range, processes: int) -> int:
    """Run the schedules and print each failure with its story; returns how many failed."""
    started = noted = time.monotonic()
    failures_count = 0
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        outcomes: Iterable[ScheduleFailed | None] = pool.imap_unordered(check_seed, seeds, _CHUNK)
        for done_count, failure in enumerate(outcomes, 1):
            if failure is not None:
                failures_count += 1
                click.echo(f"{failure}\n")
            if time.monotonic() - noted >= _PROGRESS_SECONDS:
                noted = time.monotonic()
                click.echo(f"{done_count} of {len(seeds)} schedules, {failures_count} failed")
    seconds = time.monotonic() - started
    click.echo(f"{len(seeds)} schedules in {seconds:.0f} s, {failures_count} failed")
    return failures_count


@click.command()
@click.option("--schedules", "schedules_count", default=10_000, show_default=True)
@click.option("--first-seed", default=0, show_default=True)
@click.option("--seed", type=int, help="Only this one, with its story.")
@click.option("--processes", default=2, show_default=True)
def main(schedules_count: int, first_seed: int, seed: int | None, processes: int) -> None:
    """Run schedules of the simulated cluster; the exit code is 1 if one of them failed."""
    if seed is None:
        raise SystemExit(run_many(range(first_seed, first_seed + schedules_count), processes) > 0)
    lines, error = tell_schedule(seed)
    click.echo("\n".join(lines))
    if error is not None:
        raise error
    click.echo("all went well")


if __name__ == "__main__":
    main()
