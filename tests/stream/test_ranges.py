"""Sets of positions as ranges, beside plain sets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enqueuer.stream.ranges import FixedRanges, Ranges

TOTAL = 40
one_range = st.tuples(st.integers(0, TOTAL), st.integers(0, TOTAL)).map(lambda ends: (min(ends), max(ends)))
lists = st.lists(one_range, max_size=12)


def plain(given_ranges: list[tuple[int, int]]) -> set[int]:
    return {position for start, stop in given_ranges for position in range(start, stop)}


def check(ranges: Ranges, expected: set[int]) -> None:
    assert list(ranges) == sorted(expected)
    assert len(ranges) == len(expected)
    assert [position for position in range(-1, TOTAL + 10) if position in ranges] == sorted(expected)
    assert all(start < stop for start, stop in ranges.ranges)
    assert all(before[1] < after[0] for before, after in pairwise(ranges.ranges)), "touching ranges are one"


@given(lists)
def test_added_ranges_are_in_the_set_in_any_order_and_overlap(given_ranges: list[tuple[int, int]]) -> None:
    check(Ranges(given_ranges), plain(given_ranges))
    assert Ranges(given_ranges) == Ranges(reversed(given_ranges))


@given(lists, st.lists(st.integers(-1, TOTAL + 1), max_size=8))
def test_discarded_positions_are_not_in_the_set(given_ranges: list[tuple[int, int]], discarded: list[int]) -> None:
    ranges = Ranges(given_ranges)
    for position in discarded:
        ranges.discard(position)
    check(ranges, plain(given_ranges) - set(discarded))


@given(lists, st.integers(0, TOTAL + 5))
def test_the_complement_holds_the_missing_positions(given_ranges: list[tuple[int, int]], total: int) -> None:
    check(Ranges(given_ranges).complement(total), set(range(total)) - plain(given_ranges))


@given(lists, lists)
def test_a_union_holds_the_positions_of_both_sets(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    check(Ranges(first).union(Ranges(second)), plain(first) | plain(second))


@given(lists, lists)
def test_a_selection_takes_positions_by_their_ordinal(
    members: list[tuple[int, int]], ordinals: list[tuple[int, int]]
) -> None:
    listed = sorted(plain(members))
    chosen = {listed[ordinal] for ordinal in plain(ordinals) if ordinal < len(listed)}
    check(Ranges(members).select(Ranges(ordinals)), chosen)


def test_a_copy_does_not_change_with_the_original() -> None:
    ranges = Ranges([(0, 3)])
    copy = ranges.copy()
    ranges.add(5, 6)
    assert copy == Ranges([(0, 3)]) != ranges


def test_a_set_shows_its_ranges_and_has_no_hash() -> None:
    assert repr(Ranges([(3, 4), (0, 2)])) == "Ranges([(0, 2), (3, 4)])"
    with pytest.raises(TypeError):
        hash(Ranges())


@given(st.sets(st.integers(0, 60)))
def test_the_positions_of_a_set_are_found_by_their_ordinals(positions: set[int]) -> None:
    fixed = FixedRanges(Ranges((at, at + 1) for at in positions))
    assert list(fixed) == sorted(positions)
    assert fixed[1:4] == sorted(positions)[1:4]
    with pytest.raises(IndexError):
        fixed[len(positions)]
