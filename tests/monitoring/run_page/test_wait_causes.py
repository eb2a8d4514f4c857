"""What the trainer waited for, by epoch and for the run, in bounded memory."""

from __future__ import annotations

from itertools import pairwise

from enqueuer.core.verdict import Cause
from enqueuer.monitoring.run_page.wait_causes import CauseTime, WaitCauses


def part(cause: Cause, seconds: float, waited: float = 0.0, cure: str = "") -> CauseTime:
    return CauseTime(cause.value, seconds, waited, f"{cause.value}, {seconds}", cure)


def test_an_epochs_verdict_is_the_cause_that_held_for_longest_and_was_decided() -> None:
    causes = WaitCauses()
    causes.add(0, 5, part(Cause.TOO_EARLY, 30.0, 9.0))
    causes.add(0, 5, part(Cause.WORKERS, 3.0, 1.0, "add 2"))
    causes.add(0, 5, part(Cause.ORDER, 2.0))
    causes.add(1, 7, part(Cause.TOO_EARLY, 1.0))
    first, second = causes.epochs()
    assert (first["first"], first["last"], first["batches"], first["seconds"]) == (0, 0, 15, 35.0)
    assert (first["verdict"]["cause"], first["verdict"]["cure"]) == ("too few workers", "add 2")
    assert second["verdict"]["cause"] == "too early to tell"


def test_the_causes_of_a_run_are_those_with_the_longest_waits_first() -> None:
    causes = WaitCauses()
    for seconds, waited, cause in ((1.0, 0.1, Cause.ORDER), (2.0, 0.5, Cause.WORKERS), (3.0, 0.6, Cause.ORDER)):
        causes.add(0, 1, part(cause, seconds, waited))
    order, workers = causes.run.to_json()
    assert (order["cause"], order["seconds"], order["wait_seconds"]) == ("one late batch", 4.0, 0.7)
    assert order["sentence"] == "one late batch, 3.0", "the latest words"
    assert workers["wait_seconds"] == 0.5


def test_epochs_between_two_looks_share_an_entry() -> None:
    causes = WaitCauses()
    causes.add(0, 4, part(Cause.NOTHING, 1.0))
    causes.add(5, 20, part(Cause.NOTHING, 1.0))
    assert [(entry["first"], entry["last"]) for entry in causes.epochs()] == [(0, 0), (1, 5)]


def test_many_epochs_share_entries_and_nothing_is_lost() -> None:
    causes = WaitCauses(most=10)
    for epoch in range(1_000):
        causes.add(epoch, 3, part(Cause.NOTHING, 2.0, 1.0))
    entries = causes.epochs()
    assert len(entries) <= 10 and causes.version > 0
    assert (entries[0]["first"], entries[-1]["last"]) == (0, 999)
    assert all(one["last"] + 1 == other["first"] for one, other in pairwise(entries))
    assert sum(entry["batches"] for entry in entries) == 3_000
    assert sum(entry["wait_seconds"] for entry in entries) == 1_000.0
