"""Item times in buckets: quantiles that are a tenth off at most, the latest items first, and histograms."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pytest

from enqueuer.core.item_times import OCTAVE_BOUNDS, OCTAVES, ItemTimes, SessionTimes


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


def octaves_of(seconds: Iterable[float], count: int = 1) -> list[int]:
    session = SessionTimes()
    for number, value in enumerate(seconds):
        if number % 10 == 0:
            times = ItemTimes()
            times.join(session)
        times.note(value, count)
    return session.octaves()


def test_the_first_and_the_last_octave_take_what_is_beyond_them() -> None:
    octaves = octaves_of((0.0, 1e-300, 1e-7, 5e-324, 2.0**-20, -1.0))
    assert (octaves[0], sum(octaves)) == (6, 6)
    octaves = octaves_of((OCTAVE_BOUNDS[-1], 1e9, math.inf, math.nan), 3)
    assert (octaves[-1], sum(octaves)) == (12, 12)
    assert len(octaves) == OCTAVES == len(OCTAVE_BOUNDS)


def test_an_item_is_in_the_octave_below_whose_bound_it_is() -> None:
    for octave, bound in enumerate(OCTAVE_BOUNDS):
        assert octaves_of([0.75 * bound], 5)[octave] == 5


def test_the_session_forgets_no_item_and_no_worker() -> None:
    assert sum(octaves_of([0.01] * 100, 1_000)) == 100_000
