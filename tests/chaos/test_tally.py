"""The tally of the chaos tests: it finds batches lost, repeated, out of order or wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.chaos.conftest import merge_gap
from tests.support.chaos_sequences import Steady
from tests.support.chaos_tally import Tally, expected_order


def fed(indices: list[int], *, ordered: bool = True, tag: int = 0) -> Tally:
    """A tally of 6 batches an epoch in index order, after one epoch with these indices."""
    tally = Tally(6, seed=None, ordered=ordered)
    for number, index in enumerate(indices):
        tally.take(batch(index, tag), float(number))
    tally.end_epoch()
    return tally


def batch(index: int, tag: int = 0) -> Any:
    return Steady(tag=tag).batch(index)


def test_an_exact_epoch_has_no_faults() -> None:
    assert fed([0, 1, 2, 3, 4, 5]).faults() == {}


def test_a_lost_batch_is_counted_and_shifts_the_rest() -> None:
    assert fed([0, 1, 3, 4, 5]).faults() == {"lost": 1, "out of order": 3}


def test_a_repeated_batch_is_counted() -> None:
    assert fed([0, 1, 2, 3, 4, 5, 5]).faults() == {"repeated": 1}


def test_a_batch_in_the_position_of_another_counts_as_lost_and_repeated() -> None:
    assert fed([0, 1, 1, 3, 4, 5]).faults() == {"lost": 1, "repeated": 1, "out of order": 1}


def test_order_counts_only_where_it_was_promised() -> None:
    assert fed([1, 0, 2, 3, 4, 5]).faults() == {"out of order": 2}
    assert fed([1, 0, 2, 3, 4, 5], ordered=False).faults() == {}


def test_content_of_another_sequence_is_wrong() -> None:
    assert fed([0, 1, 2, 3, 4, 5], tag=1).faults() == {"wrong": 6}


def test_content_of_another_index_is_wrong() -> None:
    tally = Tally(1, seed=None)
    tally.take((0, *batch(1)[1:]), 0.0)
    assert tally.faults() == {"wrong": 1, "in no whole epoch": 1}


def test_the_longest_gap_reaches_over_the_ends_of_epochs() -> None:
    tally = Tally(1, seed=None)
    for now in (10.0, 10.5, 13.0, 13.1):
        tally.take(batch(0), now)
        tally.end_epoch()
    assert (tally.longest_gap, tally.gap_end) == (2.5, 13.0)


def test_epochs_are_expected_in_different_orders_that_the_seed_fixes() -> None:
    orders = [expected_order(50, epoch, seed=7) for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50)) == expected_order(50, 3, seed=None)


def test_the_table_of_gaps_keeps_the_largest_of_each_row(tmp_path: Path) -> None:
    for row, seconds in (("a", 0.25), ("b", 2.0), ("a", 0.5), ("b", 1.0)):
        merge_gap(tmp_path / "gaps.json", row, seconds)
    assert json.loads((tmp_path / "gaps.json").read_text()) == {"a": 0.5, "b": 2.0}
