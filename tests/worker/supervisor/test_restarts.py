"""Delays between the deaths and restarts of a worker."""

from __future__ import annotations

import signal

from enqueuer.protocol.messages import ExitCode
from enqueuer_worker.supervisor.restarts import RestartBackoff

KILLED = -int(signal.SIGKILL)


def test_the_first_death_is_followed_by_a_start_at_once_the_next_ones_by_longer_pauses() -> None:
    backoff = RestartBackoff(longest=5.0)
    assert [backoff.delay(KILLED, 0.2) for _ in range(7)] == [0.0, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_long_life_makes_up_for_earlier_deaths() -> None:
    backoff = RestartBackoff(longest=5.0)
    for _ in range(4):
        backoff.delay(KILLED, 0.2)
    assert backoff.delay(KILLED, 3600.0) == 0.0


def test_a_recycled_worker_is_replaced_at_once_however_short_its_life() -> None:
    backoff = RestartBackoff(longest=5.0)
    assert [backoff.delay(ExitCode.RECYCLE, 0.2) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_a_refusal_is_never_followed_by_a_start_at_once() -> None:
    backoff = RestartBackoff(longest=5.0)
    assert [backoff.delay(ExitCode.REFUSED, 3600.0) for _ in range(5)] == [0.5, 1.0, 2.0, 4.0, 5.0]


def test_a_worker_that_dies_at_batches_repeatedly_waits_half_a_second_at_most() -> None:
    backoff = RestartBackoff(5.0)
    assert [backoff.delay(-9, 1.0, at_work=True) for _ in range(5)] == [0.0, 0.5, 0.5, 0.5, 0.5]


def test_the_delay_does_not_overflow_after_many_failures() -> None:
    backoff = RestartBackoff(longest=5.0)
    assert [backoff.delay(1, 0.0) for _ in range(5000)][-1] == 5.0
