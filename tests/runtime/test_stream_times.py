from __future__ import annotations

import time

import pytest

from enqueuer.runtime.stream_times import StreamTimes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in its only item."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_wait_counts_while_it_goes_on_and_after_it(clock: list[float]) -> None:
    times = StreamTimes()
    with times.waiting():
        clock[0] += 3
        assert times.wait_seconds == 3
    clock[0] += 5
    assert times.wait_seconds == 3


def test_waits_of_several_consumers_are_summed(clock: list[float]) -> None:
    times = StreamTimes()
    with times.waiting(), times.waiting():
        clock[0] += 2
    assert times.wait_seconds == 4


def test_a_wait_that_ends_in_an_error_is_over(clock: list[float]) -> None:
    times = StreamTimes()
    with pytest.raises(KeyboardInterrupt), times.waiting():
        clock[0] += 1
        raise KeyboardInterrupt
    clock[0] += 1
    assert times.wait_seconds == 1


def test_the_start_is_the_time_until_the_first_batch(clock: list[float]) -> None:
    times = StreamTimes()
    clock[0] += 1
    with times.waiting():
        clock[0] += 2
    times.note_first_batch()
    clock[0] += 4
    assert (times.startup_seconds, times.startup_wait_seconds, times.elapsed_seconds) == (3, 2, 7)


def test_the_clock_stands_still_after_the_end(clock: list[float]) -> None:
    times = StreamTimes()
    clock[0] += 2
    times.end()
    clock[0] += 2
    times.end()
    assert times.elapsed_seconds == 2
