"""Item times in buckets: quantiles that are a tenth off at most, the latest items first, and histograms."""

from __future__ import annotations

import math
import random

import pytest

from enqueuer.core.item_times import OCTAVE_BOUNDS, OCTAVES, ItemTimes


def test_without_an_item_quantiles_are_zero() -> None:
    assert ItemTimes().quantiles((0.5, 0.95)) == [0.0, 0.0]


@pytest.mark.parametrize("scale", [1e-5, 1e-3, 0.1, 30.0, 1_000.0])
def test_a_quantile_is_a_tenth_off_at_most(scale: float) -> None:
    drawn = random.Random(7)
    seconds = sorted(scale * drawn.lognormvariate(0.0, 0.5) for _ in range(1_000))
    times = ItemTimes()
    for value in seconds:
        times.note(value, 1)
    p50, p95 = times.quantiles((0.5, 0.95))
    assert p50 == pytest.approx(seconds[500], rel=0.15) and p95 == pytest.approx(seconds[950], rel=0.15)


def test_the_latest_items_weigh_most() -> None:
    times = ItemTimes()
    times.note(1.0, 100_000)
    for _ in range(20):
        times.note(0.001, 500)
    assert times.quantiles((0.5,))[0] == pytest.approx(0.001, rel=0.1)


def test_the_first_and_the_last_octave_take_what_is_beyond_them() -> None:
    times = ItemTimes(is_recent=False)
    for seconds in (0.0, 1e-300, 1e-7, 5e-324):
        times.note(seconds, 1)
    for seconds in (OCTAVE_BOUNDS[-1], 1e9, math.inf, math.nan):
        times.note(seconds, 3)
    octaves = times.octaves()
    assert len(octaves) == OCTAVES == len(OCTAVE_BOUNDS)
    assert (octaves[0], octaves[-1], sum(octaves)) == (4, 12, 16)


def test_an_item_is_in_the_octave_below_whose_bound_it_is() -> None:
    for octave, bound in enumerate(OCTAVE_BOUNDS[1:-1], start=1):
        times = ItemTimes(is_recent=False)
        times.note(0.75 * bound, 5)
        assert times.octaves()[octave] == 5


def test_a_histogram_forgets_nothing() -> None:
    times = ItemTimes(is_recent=False)
    for _ in range(100):
        times.note(0.01, 1_000)
    assert sum(times.octaves()) == 100_000
