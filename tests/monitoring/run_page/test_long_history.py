"""Figures over time in bounded memory: points are means, and as many as the bound at most."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from enqueuer.monitoring.run_page.long_history import LongHistory


def test_samples_within_a_span_are_one_point_with_their_mean() -> None:
    history = LongHistory(["rate"], most=8)
    for at, value in ((0.0, 1.0), (0.5, 3.0), (1.0, 10.0), (1.9, math.nan), (2.5, math.nan)):
        assert not history.add(at, [value])
    assert history.columns() == [[0.25, 1.45, 2.5], [2.0, 10.0, None]]
    assert history.point() == [2.5, None]


def test_a_full_history_merges_neighbours_and_goes_on() -> None:
    history = LongHistory(["rate"], most=4)
    merged = [history.add(float(second), [float(second)]) for second in range(9)]
    assert merged == [False] * 4 + [True] + [False] * 3 + [True]
    assert history.span == 4.0
    assert history.columns() == [[1.5, 5.5, 8.0], [1.5, 5.5, 8.0]]


def test_a_week_takes_no_more_points_than_an_hour() -> None:
    history = LongHistory(["rate"], most=100)
    for hour in range(7 * 24):
        for second in range(0, 3_600, 60):
            history.add(3_600.0 * hour + second, [5.0])
    assert 50 <= len(history) <= 100
    assert set(history.columns()[1]) == {5.0}


@given(st.lists(st.floats(0.01, 500.0), min_size=1, max_size=300), st.integers(2, 20))
def test_times_grow_and_the_mean_of_all_samples_stays(steps: list[float], most: int) -> None:
    history = LongHistory(["rate"], most=most)
    at, values = 0.0, []
    for step in steps:
        at += step
        values.append(step)
        history.add(at, [step])
    assert len(history) <= most
    assert list(history.times) == sorted(history.times)
    total = sum(count * value for count, value in zip(history._counts, history._columns[0], strict=True))
    assert sum(history._counts) == len(values) and math.isclose(total, sum(values), rel_tol=1e-9)
