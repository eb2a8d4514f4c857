"""Sets of positions as ranges, beside plain sets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enqueuer.stream.ranges import Ranges

TOTAL = 40
pairs = st.tuples(st.integers(0, TOTAL), st.integers(0, TOTAL)).map(lambda pair: (min(pair), max(pair)))
lists = st.lists(pairs, max_size=12)


def plain(given_pairs: list[tuple[int, int]]) -> set[int]:
    return {position for start, stop in given_pairs for position in range(start, stop)}


def check(ranges: Ranges, expected: set[int]) -> None:
    assert list(ranges) == sorted(expected)
    assert len(ranges) == len(expected)
    assert [position for position in range(-1, TOTAL + 10) if position in ranges] == sorted(expected)
    assert all(start < stop for start, stop in ranges.pairs)
    assert all(before[1] < after[0] for before, after in pairwise(ranges.pairs)), "touching ranges are one"


@given(lists)
def test_what_was_added_is_there_whatever_the_order_and_overlap(given_pairs: list[tuple[int, int]]) -> None:
    check(Ranges(given_pairs), plain(given_pairs))
    assert Ranges(given_pairs) == Ranges(reversed(given_pairs))


@given(lists, st.lists(st.integers(-1, TOTAL + 1), max_size=8))
def test_what_was_discarded_is_not_there(given_pairs: list[tuple[int, int]], discarded: list[int]) -> None:
    ranges = Ranges(given_pairs)
    for position in discarded:
        ranges.discard(position)
    check(ranges, plain(given_pairs) - set(discarded))


@given(lists, st.integers(0, TOTAL + 5))
def test_the_complement_is_what_is_missing(given_pairs: list[tuple[int, int]], total: int) -> None:
    check(Ranges(given_pairs).complement(total), set(range(total)) - plain(given_pairs))


@given(lists, lists)
def test_a_union_holds_what_either_holds(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    check(Ranges(first).union(Ranges(second)), plain(first) | plain(second))


@given(lists, lists)
def test_a_selection_takes_positions_by_their_place(
    members: list[tuple[int, int]], places: list[tuple[int, int]]
) -> None:
    listed = sorted(plain(members))
    chosen = {listed[place] for place in plain(places) if place < len(listed)}
    check(Ranges(members).select(Ranges(places)), chosen)


def test_a_copy_is_its_own() -> None:
    ranges = Ranges([(0, 3)])
    copy = ranges.copy()
    ranges.add(5, 6)
    assert copy == Ranges([(0, 3)]) != ranges


def test_it_shows_its_pairs_and_has_no_hash() -> None:
    assert repr(Ranges([(3, 4), (0, 2)])) == "Ranges([(0, 2), (3, 4)])"
    with pytest.raises(TypeError):
        hash(Ranges())
