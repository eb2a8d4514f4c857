"""Produces what holds a training back, for real, and counts how often its verdict is right.

python -m tests.benchmarks.verdicts [--case TEXT] [--runs 20] [--at-once 1]     of each case
python -m tests.benchmarks.verdicts --follow                                    does the advised number keep up?

Each case is a training in a process of its own (`verdict_cases`), which is asked for its first verdict, 30 seconds
after its first batch. The exit code is 1 if a verdict is wrong.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import click

from enqueuer import SequenceEnqueuer, SequenceSpec
from tests.benchmarks.verdict_cases import CASES, SLOTS, run_case

# Seconds that an item and a step take.
LOADS = ((0.02, 0.005), (0.05, 0.01), (0.1, 0.025))
_FOLLOWED_SECONDS = 32.0


def judge_runs(name: str, seeds: range, at_once: int) -> bool:
    """Run the case with each seed, and print how often it was named."""
    expected = CASES[name].expected.name
    with ThreadPoolExecutor(at_once) as pool:
        results = list(pool.map(lambda seed: run_case(name, seed), seeds))
    right = [result for result in results if result["cause"] == expected]
    click.echo(f"{name}: {expected} {len(right)} of {len(results)}")
    for seed, result in zip(seeds, results, strict=True):
        if result["cause"] != expected:
            click.echo(f"  seed {seed}: {result['cause']}: {result['words']}")
    if right:
        latest = max(result["seconds"] for result in right)
        click.echo(f"  at the latest after {latest:.0f} s; such as: {right[0]['words']}")
    return len(right) == len(results)


def follow(work: float, step: float) -> bool:
    """Train with few workers, then with as many as the verdict advises; whether that keeps up."""
    spec = SequenceSpec("tests.benchmarks.verdict_cases:Work", waited=work)
    slots, shares = SLOTS, []
    for _ in range(2):
        with SequenceEnqueuer(spec, use_multiprocessing=True) as enqueuer:
            enqueuer.start(slots, max_queue_size=max(10, 2 * slots))
            batches = enqueuer.get()
            next(batches)
            end = time.monotonic() + _FOLLOWED_SECONDS
            while time.monotonic() < end:
                next(batches)
                time.sleep(step)
            verdict = enqueuer.verdict()
            shares.append(1 - verdict.wait_share)
            used, slots = slots, verdict.desired_slots or slots
            click.echo(f"  {used} slots: {shares[-1]:.1%} of the trainer's rate: {verdict}")
    return shares[-1] >= 0.95


@click.command()
@click.option("--case", "wanted", default="", help="Only cases whose name has this in it.")
@click.option("--runs", default=20, show_default=True)
@click.option("--first-seed", default=1, show_default=True)
@click.option("--at-once", default=1, show_default=True, help="Runs beside each other; they disturb one another.")
@click.option("--follow", "follows", is_flag=True, help="Follow the advised number once, for three loads.")
def main(wanted: str, runs: int, first_seed: int, at_once: int, follows: bool) -> None:
    """Print a count for each case."""
    if follows:
        kept_up = []
        for work, step in LOADS:
            click.echo(f"items of {1000 * work:g} ms, steps of {1000 * step:g} ms")
            kept_up.append(follow(work, step))
        raise SystemExit(not all(kept_up))
    seeds = range(first_seed, first_seed + runs)
    right = [judge_runs(name, seeds, at_once) for name in CASES if wanted in name]
    raise SystemExit(not all(right))


if __name__ == "__main__":
    main()
