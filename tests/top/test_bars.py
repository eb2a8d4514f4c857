from __future__ import annotations

import pytest

from enqueuer.top.bars import bar, nice_limit


def text(parts: tuple[float, ...], limit: float, height: int) -> str:
    return "".join(cell for cell, _, _ in bar(parts, limit, height))


def test_a_bar_is_as_high_as_its_value() -> None:
    assert [text((value,), 8.0, 1) for value in (0, 1, 4, 7, 8)] == [" ", "▁", "▄", "▇", "█"]
    assert text((3.0,), 4.0, 2) == "█▄"


def test_what_is_above_the_limit_is_cut_and_what_is_small_is_seen() -> None:
    assert text((99.0,), 8.0, 2) == "██"
    assert text((1e-9,), 8.0, 2) == "▁ "


def test_parts_share_a_cell_in_two_colours() -> None:
    assert bar((4.0, 4.0), 8.0, 1) == [("▄", 0, 1)]
    assert bar((4.0, 2.0), 8.0, 1) == [("▄", 0, 1)], "the second one looks a little higher"
    assert bar((8.0, 4.0), 16.0, 2) == [("█", 0, None), ("▄", 1, None)]


def test_empty_parts_are_left_out() -> None:
    assert bar((0.0, 0.0, 4.0), 8.0, 1) == [("▄", 2, None)]
    assert bar((0.0, 0.0), 8.0, 1) == [(" ", None, None)]


@pytest.mark.parametrize(("value", "limit"), [(0, 1), (0.03, 0.05), (1, 1), (1.1, 2), (7, 10), (120, 200), (5e6, 5e6)])
def test_an_axis_ends_at_a_round_number(value: float, limit: float) -> None:
    assert nice_limit(value) == pytest.approx(limit)
