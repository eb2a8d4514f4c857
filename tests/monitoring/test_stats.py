from __future__ import annotations

import inspect
import re
from dataclasses import fields, replace

import pytest

from enqueuer import OffenderStats, Stats, WorkerInfo, WorkerStats
from enqueuer.core.verdict import Cause, Verdict


@pytest.mark.parametrize("table", [Stats, WorkerStats, OffenderStats, WorkerInfo])
def test_each_field_has_its_sentence_in_the_docstring_in_the_same_order(table: type) -> None:
    described = inspect.cleandoc(table.__doc__ or "").partition("Attributes:\n")[2]
    assert re.findall(r"^    (\w+): \S.*", described, re.MULTILINE) == [field.name for field in fields(table)]


RUNNING = Stats(
    running=True,
    epoch=3,
    length=100,
    taken_count=40,
    ready_count=7,
    received_count=1,
    leased_count=2,
    queue_limit=12,
    workers_count=1,
    slots_count=2,
    batches_total=341,
    elapsed_seconds=22.0,
    startup_seconds=2.0,
    wait_seconds=6.5,
    startup_wait_seconds=1.5,
    workers=(WorkerStats("w-0", "gpu-box", 17, False, 2, 2, 341, 0.1),),
)


def test_rate_and_wait_share_begin_with_the_first_batch() -> None:
    assert RUNNING.batches_per_second == pytest.approx(17.0)
    assert RUNNING.wait_share == pytest.approx(0.25)


def test_printed_statistics_are_a_table_with_rate_elapsed_time_and_wait_share() -> None:
    lines = dict(line.split(maxsplit=1) for line in str(RUNNING).splitlines())
    assert lines["epoch"] == "3, 40 of 100 batches taken"
    assert lines["rate"] == "17.0 batches/s (341 batches in all)"
    assert lines["elapsed"] == "22.0 s, the first batch after 2.0 s"
    assert lines["waiting"] == "25.0% of the time since the first batch"
    assert lines["queue"] == "7 ready, 1 ahead of turn, 2 leased of at most 12"
    assert lines["workers"] == "1 (2 slots)"
    assert re.search(r"^ +w-0 on gpu-box +341 batches, 100.0 ms each$", str(RUNNING), re.MULTILINE)
    assert "faults" not in lines


def test_faults_are_in_the_table_if_there_were_any() -> None:
    table = str(Stats(retries_count=2, lost_workers_count=1, skipped=((0, 4),)))
    assert "faults      1 skipped, 2 retries, 1 lost worker" in table.splitlines()


@pytest.mark.parametrize("stats", [Stats(), Stats(batches_total=1, elapsed_seconds=1.0, startup_seconds=1.0)])
def test_without_a_second_batch_there_is_no_rate(stats: Stats) -> None:
    assert (stats.batches_per_second, stats.wait_share) == (0.0, 0.0)
    assert "rate        0.0 batches/s" in str(stats)


def test_several_consumers_wait_no_more_than_all_the_time() -> None:
    stats = Stats(batches_total=9, elapsed_seconds=2.0, startup_seconds=1.0, wait_seconds=3.0)
    assert stats.wait_share == 1.0


def test_the_table_has_the_verdict_once_there_is_one_and_the_bytes_by_way() -> None:
    early = Verdict(Cause.TOO_EARLY, 0.0, None, "too early to tell")
    assert "verdict" not in str(replace(RUNNING, verdict=early))
    table = str(replace(RUNNING, verdict=Verdict(Cause.WORKERS, 0.2, 4, "it waits", "add 2"), bytes_total=4_000_000))
    assert "verdict     it waits: add 2" in table.splitlines()
    assert "received    4.0 MB from worker processes" in table.splitlines()
    shared = str(replace(RUNNING, bytes_total=4_000_000, shared_bytes_total=3_000_000))
    assert "received    4.0 MB from worker processes, 75% of it through shared memory" in shared.splitlines()
