"""The strip of item times: what a byte stands for, columns, and merging."""

from __future__ import annotations

import pytest

from enqueuer.monitoring.run_page.heat_strip import ABSENT, NO_ITEM, HeatStrip, level_of


@pytest.mark.parametrize("seconds", [1e-6, 0.001, 0.02, 1.0, 60.0, 3_500.0])
def test_a_level_is_a_tenth_off_at_most(seconds: float) -> None:
    level = level_of(seconds)
    assert 2 <= level <= 255
    assert 2.0 ** ((level - 2 + 0.5) / 8 - 20) == pytest.approx(seconds, rel=0.1)


def test_times_beyond_the_range_have_the_outermost_levels() -> None:
    assert (level_of(0.0), level_of(1e-9), level_of(1e9)) == (NO_ITEM, 2, 255)


def test_a_column_begins_with_the_present_levels_and_an_absent_worker_ends_with_it() -> None:
    strip = HeatStrip(span=2.0)
    strip.open(0.0)
    strip.set(0, 10)
    strip.set(2, 30)
    assert not strip.open(1.9)
    strip.set(2, ABSENT)
    strip.open(2.0)
    strip.set(0, 11)
    strip.open(6.5)
    assert strip.numbers == [0, 1, 3]
    assert [list(column) for column in strip.columns] == [[10, 0, 30], [11, 0, 0], [11, 0, 0]]


def test_merged_columns_keep_the_slower_time_and_stay_within_the_bound() -> None:
    strip = HeatStrip(most=4, span=1.0)
    merged = []
    for second in range(5):
        merged.append(strip.open(float(second)))
        strip.set(0, 100 - second)
        if second == 3:
            strip.set(1, 50)
    assert merged == [False] * 4 + [True]
    assert strip.span == 2.0 and strip.numbers == [0, 1, 2]
    assert [list(column) for column in strip.columns] == [[100], [98, 50], [96, 50]]
    for second in range(5, 100_000, 7):
        strip.open(float(second))
        assert len(strip.columns) <= 4


def test_rows_are_dropped_from_all_columns() -> None:
    strip = HeatStrip()
    for second in range(0, 6, 2):
        strip.open(float(second))
        strip.set(second // 2, 10 + second)
    strip.keep([2, 0])
    assert [list(column) for column in strip.columns] == [[0, 10], [0, 10], [14, 10]]
