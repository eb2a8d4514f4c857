from __future__ import annotations

import logging

import pytest

from enqueuer import Stats
from enqueuer.monitoring.minute_line import LINE_SECONDS, MinuteLine, describe_change

EARLIER = Stats(batches_total=100, wait_seconds=5.0)
LATER = Stats(
    epoch=2,
    length=50,
    taken_count=9,
    ready_count=3,
    queue_limit=12,
    workers_count=1,
    slots_count=4,
    batches_total=400,
    wait_seconds=20.0,
)


def test_the_line_has_rate_wait_share_workers_and_queue_of_the_time_since_the_last_one() -> None:
    assert describe_change(EARLIER, LATER, 60.0) == (
        "last 60 s: 5.0 batches/s, waited 25% of the time, workers 4, queue 3 of 12; epoch 2, batch 9 of 50"
    )


def test_an_unbounded_queue_has_no_limit_in_the_line() -> None:
    assert "queue 0;" in describe_change(Stats(), Stats(), 60.0)


def test_the_line_comes_once_a_minute_whatever_the_number_of_turns(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "enqueuer")
    line = MinuteLine(lambda: LATER, now=1000.0)
    for turn in range(1200):
        line.look(1000.0 + turn * LINE_SECONDS / 500)
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    assert "last 60 s: 6.7 batches/s" in caplog.messages[0]
    assert "last 60 s: 0.0 batches/s" in caplog.messages[1]


def test_each_line_counts_from_the_one_before(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "enqueuer")
    snapshots = iter([EARLIER, LATER])
    line = MinuteLine(lambda: next(snapshots), now=0.0)
    line.look(60.0)
    line.look(180.0)
    assert "last 120 s: 2.5 batches/s, waited 12% of the time" in caplog.messages[1]
