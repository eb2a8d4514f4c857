"""The watch for overdue tasks; the test is the clock."""

from __future__ import annotations

import math

import pytest

from enqueuer.compute.overdue import OverdueWatch


def looks(watch: OverdueWatch[str], running: list[str], start: float, end: float) -> list[tuple[float, list[str]]]:
    """Look whenever it is due from ``start`` to ``end``; returns when each set of overdue tasks was first seen."""
    seen: list[tuple[float, list[str]]] = []
    now = start
    while now <= end:
        overdue = watch.look(running, now)
        if not seen or seen[-1][1] != overdue:
            seen.append((now, overdue))
        now = watch.next_look()
    return seen


def test_without_a_timeout_no_look_is_due_and_nothing_is_overdue() -> None:
    watch: OverdueWatch[str] = OverdueWatch()
    assert watch.next_look() == math.inf and watch.interval == math.inf
    assert watch.look(["a"], 0.0) == watch.look(["a"], 1e9) == []


@pytest.mark.parametrize(("timeout", "interval"), [(0.05, 0.02), (1.0, 0.1), (5.0, 0.5), (3600.0, 1.0)])
def test_the_watch_looks_ten_times_a_timeout_within_bounds(timeout: float, interval: float) -> None:
    watch: OverdueWatch[str] = OverdueWatch(timeout)
    assert watch.next_look() == -math.inf
    watch.look([], 7.0)
    assert watch.next_look() == pytest.approx(7.0 + interval)


def test_a_task_is_overdue_once_it_was_seen_for_longer_than_the_timeout() -> None:
    watch: OverdueWatch[str] = OverdueWatch(10.0)
    assert watch.look(["a"], 0.0) == []
    assert looks(watch, ["a"], 1.0, 10.0) == [(1.0, [])]
    assert watch.look(["a"], 11.0) == ["a"]


def test_an_overdue_task_stays_overdue_until_it_ends() -> None:
    watch: OverdueWatch[str] = OverdueWatch(10.0)
    looks(watch, ["a", "b"], 0.0, 12.0)
    assert watch.look(["a", "b"], 13.0) == ["a", "b"]
    assert watch.look(["b"], 14.0) == ["b"]
    assert watch.look(["a", "b"], 15.0) == ["b"]


def test_each_task_has_its_own_time() -> None:
    watch: OverdueWatch[str] = OverdueWatch(10.0)
    looks(watch, ["a"], 0.0, 5.0)
    assert looks(watch, ["a", "b"], 6.0, 20.0) == [(6.0, []), (11.0, ["a"]), (17.0, ["a", "b"])]


def test_one_short_task_after_the_other_is_never_overdue() -> None:
    watch: OverdueWatch[int] = OverdueWatch(1.0)
    assert all(watch.look([number // 5], number / 10) == [] for number in range(1000))


def test_a_pause_of_the_watching_process_counts_as_two_intervals() -> None:
    watch: OverdueWatch[str] = OverdueWatch(10.0)
    looks(watch, ["a"], 0.0, 5.0)
    assert watch.look(["a"], 1000.0) == []
    assert looks(watch, ["a"], 1001.0, 1010.0) == [(1001.0, []), (1004.0, ["a"])]


def test_a_watch_that_always_looks_late_still_finds_overdue_tasks() -> None:
    watch: OverdueWatch[str] = OverdueWatch(10.0)
    assert [bool(watch.look(["a"], 5.0 * number)) for number in range(7)] == [False] * 6 + [True]


def test_the_same_timeout_again_changes_nothing_and_another_starts_anew() -> None:
    watch: OverdueWatch[str] = OverdueWatch(10.0)
    looks(watch, ["a"], 0.0, 9.0)
    watch.limit(10.0)
    looks(watch, ["a"], 10.0, 10.0)
    assert watch.look(["a"], 11.0) == ["a"]
    watch.limit(5.0)
    assert watch.next_look() == -math.inf
    assert watch.look(["a"], 12.0) == []
    watch.limit(None)
    assert watch.next_look() == math.inf and watch.look(["a"], 100.0) == []
