"""The verdict over time: its window, the number that is published, and what the log says. No clock but the test's."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from enqueuer.core.verdict import Cause
from enqueuer.core.window import LateBatch
from enqueuer.monitoring.verdict_watch import Counters, VerdictWatch


class Training:
    """A run whose counters grow at given rates."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.counters = Counters()
        self.watch = VerdictWatch(lambda: self.counters, self.now)

    def probe(self, seconds: int, probed_rate: float | None = None) -> None:
        """The trainer takes no batches, and the workers fill the queue."""
        self.watch.pause(self.now)
        self.run(seconds, rate=0, busy=2.0)
        self.now += 0.5
        self.watch.resume(self.now, probed_rate)

    def run(
        self, seconds: int, *, rate: int = 10, waited: float = 0.0, busy: float = 1.0, slots: int = 2, item: float = 0.1
    ) -> None:
        for _ in range(seconds):
            self.now += 1.0
            old = self.counters
            self.counters = replace(
                old,
                batches_count=old.batches_count + rate,
                wait_seconds=old.wait_seconds + waited,
                busy_seconds=old.busy_seconds + busy,
                slots_count=slots,
                computed_count=old.computed_count + round(busy / item),
            )
            self.watch.look(self.now)


def test_the_verdict_comes_after_thirty_seconds_and_is_of_the_latest_thirty() -> None:
    training = Training()
    training.run(30, waited=0.5, busy=2.0)  # the first batch comes in the first second
    assert training.watch.verdict.cause is Cause.TOO_EARLY
    training.run(1, waited=0.5, busy=2.0)
    assert training.watch.verdict.cause is Cause.WORKERS
    training.run(30)
    assert training.watch.verdict.cause is Cause.NOTHING
    assert training.watch.verdict.wait_share == 0.0, "what was before is forgotten"


def test_one_slow_batch_does_not_raise_the_number_of_slots() -> None:
    training = Training()
    training.run(40, rate=10, waited=0.5, busy=2.0, item=0.2)
    assert training.watch.desired_slots == 5
    training.run(1, rate=9, waited=0.5, busy=10.0, item=5.0)  # both workers' batches took 5 s
    training.run(40, rate=10, waited=0.5, busy=2.0, item=0.2)
    assert training.watch.desired_slots == 5
    training.run(40, rate=10, waited=0.5, busy=2.0, item=0.4)
    assert training.watch.desired_slots == 9, "work that stays slower counts"


def test_slow_batches_now_and_then_count_by_the_work_they_are() -> None:
    training = Training()
    for _ in range(10):
        training.run(4, rate=10, waited=0.5, busy=1.0, item=0.1)
        training.run(1, rate=10, waited=0.5, busy=11.0, item=1.1)  # ten batches, one of them of ten seconds
    assert training.watch.window.work_seconds == pytest.approx(15.0 / 50)
    assert training.watch.desired_slots == 7


def test_fast_workers_count_by_the_batches_that_they_compute() -> None:
    training = Training()
    for _ in range(40):
        training.run(1, rate=10, waited=0.5, busy=2.0, item=2.0 / 11)  # 0.1 s a batch on one of them, 1 s on the other
    assert training.watch.desired_slots == 4


def test_the_start_of_the_workers_is_in_no_window() -> None:
    training = Training()
    training.run(20, rate=0, waited=1.0, busy=0.0, slots=0)
    training.run(1, rate=1, waited=-20.0)  # what was waited before the first batch counts no more
    training.run(29, waited=0.5, busy=2.0)
    assert training.watch.verdict.cause is Cause.TOO_EARLY
    training.run(1, waited=0.5, busy=2.0)
    assert training.watch.verdict.cause is Cause.WORKERS
    assert training.watch.window.wait_share == 0.5 and training.watch.window.busy_share == 1.0


def test_workers_that_join_within_the_window_count_from_then_on() -> None:
    training = Training()
    training.run(40, waited=0.5, busy=2.0)
    training.run(10, waited=0.5, busy=8.0, slots=8)
    assert training.watch.window.busy_share > 0.95
    assert training.watch.verdict.cause is Cause.WORKERS


def test_long_steps_have_a_longer_window() -> None:
    training = Training()
    for _ in range(19):
        training.run(9, rate=0)
        training.run(1, rate=1)
    assert training.watch.verdict.cause is Cause.TOO_EARLY
    training.run(10, rate=1)
    assert training.watch.verdict.cause is Cause.NOTHING


def test_turns_within_a_second_read_nothing() -> None:
    reads: list[int] = []

    def read() -> Counters:
        reads.append(1)
        return Counters()

    watch = VerdictWatch(read, 0.0)
    for turn in range(1000):
        watch.look(turn / 400)
    assert len(reads) == 2


def test_the_published_number_rises_at_once_and_falls_after_five_minutes() -> None:
    training = Training()
    training.run(40, waited=0.5, busy=2.0)
    assert training.watch.desired_slots == 3  # 20 batches a second of 0.1 s, and a tenth more
    training.run(60, waited=0.5, busy=2.0, item=0.2)
    assert training.watch.desired_slots == 5
    training.run(299, waited=0.5, busy=2.0)
    assert training.watch.desired_slots == 5
    training.run(40, waited=0.5, busy=2.0)
    assert training.watch.desired_slots == 3


def test_the_advice_is_the_published_number_while_that_is_kept() -> None:
    training = Training()
    training.run(100, waited=0.5, busy=2.0, item=0.2)
    training.run(100, waited=0.5, busy=2.0)
    assert training.watch.window.desired_slots == 3
    assert training.watch.verdict.desired_slots == training.watch.desired_slots == 5
    assert "add 3 " in training.watch.verdict.cure


@pytest.mark.parametrize("seconds", [0, 1, 100, 2_000])
def test_the_time_of_a_probe_is_in_no_window(seconds: int) -> None:
    training = Training()
    training.run(40, waited=0.5, busy=1.5)
    before = training.watch.window
    training.probe(seconds)
    assert training.watch.window == before
    assert training.watch.verdict.cause is Cause.WORKERS
    training.run(10, waited=0.5, busy=1.5)
    assert training.watch.window.wait_share == 0.5 and training.watch.window.busy_share == 0.75


def test_the_verdict_goes_by_a_measured_rate_at_once_up_and_down() -> None:
    training = Training()
    training.run(40, waited=0.5, busy=2.0)
    assert training.watch.verdict.desired_slots == 3
    training.probe(10, 50.0)
    assert training.watch.verdict.desired_slots == training.watch.desired_slots == 6
    training.probe(10, 30.0)
    assert training.watch.verdict.desired_slots == training.watch.desired_slots == 4
    training.run(20, waited=0.5, busy=2.0, item=0.2)
    training.run(20, waited=0.5, busy=2.0)
    assert training.watch.desired_slots == 7, "later, it falls after minutes again"


def test_a_probe_before_the_first_batch_leaves_the_window_to_begin_with_it() -> None:
    training = Training()
    training.probe(50, 20.0)
    training.run(31, waited=0.5, busy=2.0)
    assert training.watch.verdict.cause is Cause.WORKERS and training.watch.verdict.wait_share == 0.5


def test_a_probe_without_an_end_is_over_when_the_trainer_takes_batches() -> None:
    training = Training()
    training.run(40)
    training.watch.pause(training.now)
    training.run(20, rate=0)
    training.run(40, waited=0.5, busy=2.0)
    assert training.watch.verdict.cause is Cause.WORKERS


def test_a_late_batch_that_keeps_slots_idle_is_named() -> None:
    training = Training()
    training.run(5)
    training.counters = replace(training.counters, late_batch=LateBatch(1, 7, "far"))
    training.run(40, waited=0.5, busy=0.5)
    assert training.watch.verdict.cause is Cause.ORDER
    assert "batch 7 of epoch 1 on far" in training.watch.verdict.sentence


def test_the_log_says_a_verdict_once_when_it_changes_and_at_most_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "enqueuer")
    training = Training()
    training.run(300, waited=0.5, busy=2.0)
    assert len(caplog.messages) == 1 and caplog.records[0].levelno == logging.INFO
    for _ in range(10):
        training.run(40)
        training.run(40, waited=0.9, busy=2.0)
    told = len(caplog.messages) - 1
    assert 2 <= told <= 800 / 60 + 1
