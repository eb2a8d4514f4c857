"""The contestants that live at once: their table, and a short run of two of them."""

from __future__ import annotations

import subprocess
import sys

from tests.benchmarks.slices import Contestant, lines
from tests.benchmarks.slices_program import Slice
from tests.support.remote import REPOSITORY, environment


def contestant(name: str, *slices: Slice) -> Contestant:
    made = Contestant(name, None)  # type: ignore[arg-type]  # it does not run
    made.slices += slices
    return made


def test_the_table_has_means_of_all_slices_and_ratios_to_the_first_two_contestants() -> None:
    bare = contestant("bare", Slice(100, 0.5, 1.0, 0), Slice(50, 0.5, 1.0, 0))
    pipes = contestant("pipes", Slice(60, 0.5, 1.0, 60), Slice(60, 0.5, 1.0, 60))
    ours = contestant("enqueuer", Slice(30, 0.5, 0.5, 30), Slice(30, 0.5, 0.5, 0))
    _, first, second, third = (line.split() for line in lines([bare, pipes, ours]))
    assert first == ["bare", "150.0", "50.0", "13.33", "0.00", "1.000", "1.250"]
    assert second == ["pipes", "120.0", "0.0", "16.67", "1.00", "0.800", "1.000"]
    assert third == ["enqueuer", "60.0", "0.0", "16.67", "0.50", "0.400", "0.500"]


def test_a_short_run_measures_each_contestant_and_leaves_no_process() -> None:
    options = ("--kinds", "sleep20", "--contestants", "bare,enqueuer", "--rounds", "2", "--seconds", "0.1")
    command = [sys.executable, "-m", "tests.benchmarks.slices", *options]
    # Its output ends when the last process that has inherited it does.
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=120, check=True
    )
    rows = [line.split() for line in done.stdout.splitlines()[2:4]]
    assert [name for name, *_ in rows] == ["bare", "enqueuer"]
    assert all(float(rate) > 10 for _, rate, *_ in rows)
