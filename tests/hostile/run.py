"""How much an attack slows a running epoch down, and what a rejected message costs the trainer.

python -m tests.hostile.run [--seconds 6] [--case TEXT]

A trainer process and two remote workers, 20 ms a batch, all on this machine, and so is the attacker: each case runs an
epoch undisturbed, one under attack and one undisturbed again. The ratio is of its speed to the mean of the two; the
cost is the trainer's processor time beyond theirs, a message. On an otherwise idle machine.
"""

from __future__ import annotations

import tempfile
import threading
from typing import Any

import click

from tests.hostile.attacks import CASES, Case, Scene
from tests.hostile.sequences import SECONDS
from tests.hostile.target import WORKERS, Target

# Of an undisturbed epoch's speed.
BAR = 0.9


def attack(target: Target, case: Case) -> tuple[dict[str, Any], int]:
    """Run one epoch under attack; returns its outcome and how much was sent."""
    scene = Scene(target.control, target.data)
    sent: list[int] = []
    attacker = threading.Thread(target=lambda: sent.append(case.attack(scene)))
    target.begin_epoch()
    attacker.start()
    try:
        result = target.end_epoch()
    finally:
        scene.stop.set()
        attacker.join(30)
    assert sent, "the attack failed: see its traceback"
    return result, sent[0]


def measure(name: str, case: Case, length: int) -> bool:
    """Print a row; returns whether all went well."""
    with tempfile.TemporaryDirectory() as scratch, case.target(scratch, length) as target:
        target.epoch()  # loads what is loaded once
        before = target.epoch()
        under, sent_count = attack(target, case)
        after = target.epoch()
    calm_seconds = (before["seconds"] + after["seconds"]) / 2
    ratio = calm_seconds / under["seconds"]
    extra = under["cpu_seconds"] - (before["cpu_seconds"] + after["cpu_seconds"]) / 2
    cost = f"{max(0.0, extra) / max(1, sent_count) * 1e6:.0f} µs" if case.rejected else "–"
    exact = before["exact"] and under["exact"] and after["exact"]
    good = exact and ratio >= BAR
    click.echo(f"| {name} | {ratio:.2f} | {sent_count} | {cost} | {'yes' if exact else 'NO'} |{'' if good else ' !'}")
    return good


@click.command()
@click.option("--seconds", default=6.0, show_default=True, help="An undisturbed epoch, about.")
@click.option("--case", "wanted", default="", help="Only cases whose name has this in it.")
def main(seconds: float, wanted: str) -> None:
    """Print the table; the exit code is 1 if a case is inexact or below the bar."""
    length = int(seconds / SECONDS * WORKERS)
    click.echo("| attack | speed | sent | trainer's time each | exact |\n|---|---|---|---|---|")
    results = [measure(name, case, length) for name, case in CASES.items() if wanted in name]
    raise SystemExit(not all(results))


if __name__ == "__main__":
    main()
