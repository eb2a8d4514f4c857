"""Whether a large container is the same, by the objects that it holds."""

from __future__ import annotations

import decimal
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer.protocol import plain_snapshot
from enqueuer.protocol.plain_snapshot import PlainSnapshot

COUNT = 100_000

PLAIN: dict[str, Callable[[int], Any]] = {
    "integers": lambda number: number,
    "texts": lambda number: f"row {number}",
    "tuples": lambda number: (number, f"row {number}", (number / 3, None)),
    "NumPy's numbers": lambda number: np.float32(number),
    "paths": lambda number: Path(f"{number}.png"),
}


@pytest.fixture(params=["memory", "operators"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "operators":
        monkeypatch.setattr(plain_snapshot, "_knows_layout", False)


def snapshot(container: Any) -> PlainSnapshot:
    made = PlainSnapshot.of(container)
    assert made is not None and made.is_unchanged()
    return made


@pytest.mark.parametrize("kind", PLAIN)
def test_any_replaced_value_of_a_list_is_seen(kind: str) -> None:
    rows = [PLAIN[kind](number) for number in range(COUNT)]
    made = snapshot(rows)
    for place in (0, COUNT // 2, COUNT - 1):
        old, rows[place] = rows[place], object()
        assert not made.is_unchanged()
        rows[place] = old
        assert made.is_unchanged()


def test_an_equal_value_of_another_type_is_seen() -> None:
    rows: list[Any] = [(number, 0.0) for number in range(COUNT)]
    made = snapshot(rows)
    for other in ((5.0, 0.0), (5, -0.0), (5, False)):
        rows[5] = other
        assert rows[5] == (5, 0.0)
        assert not made.is_unchanged()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda rows: rows.append(0), id="append"),
        pytest.param(lambda rows: rows.pop(), id="pop"),
        pytest.param(lambda rows: rows.clear(), id="clear"),
        pytest.param(lambda rows: rows.reverse(), id="reverse"),
        pytest.param(lambda rows: rows.insert(0, rows.pop()), id="turn"),
    ],
)
def test_a_change_of_a_lists_length_or_order_is_seen(change: Callable[[list[Any]], object]) -> None:
    rows = [f"row {number}" for number in range(COUNT)]
    made = snapshot(rows)
    change(rows)
    assert not made.is_unchanged()


def test_a_change_of_a_dict_is_seen() -> None:
    rows: dict[Any, Any] = {f"row {number}": number for number in range(COUNT)}
    made = snapshot(rows)
    rows["row 7"] = 7.0
    assert not made.is_unchanged()
    rows = {f"row {number}": number for number in range(COUNT)}
    made = snapshot(rows)
    rows["row 7"] = rows.pop("row 7")
    assert not made.is_unchanged(), "pickles have the order of keys"


def test_a_tuple_of_plain_values_cannot_change() -> None:
    assert snapshot(tuple(range(COUNT))).is_unchanged()


class Number(int):
    pass


@pytest.mark.parametrize(
    "value",
    [
        [1],
        {"a": 1},
        {1},
        (1, [2]),
        np.zeros(1),
        np.zeros(1, "i4,f4")[0],
        bytearray(b"1"),
        object(),
        Number(1),
        decimal.Decimal(1),
        len,
    ],
    ids=lambda value: type(value).__name__,
)
def test_there_is_no_snapshot_where_a_value_may_change_unseen(value: Any) -> None:
    assert PlainSnapshot.of([1, value]) is None
    assert PlainSnapshot.of({"key": value}) is None


def test_tuples_without_end_have_no_snapshot() -> None:
    value: Any = ()
    for _ in range(20):
        value = (value,)
    assert PlainSnapshot.of([value]) is None


def test_a_list_whose_memory_cannot_be_read_is_compared_by_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(range(COUNT))
    made = snapshot(rows)
    monkeypatch.setattr(plain_snapshot.os, "open", _refuse)
    assert made.is_unchanged()
    rows[3] = -1
    assert not made.is_unchanged()


def _refuse(*_: Any) -> int:
    raise PermissionError


def test_where_lists_lie_otherwise_their_memory_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_snapshot.os, "pread", lambda _, count, __: bytes(count))
    assert not plain_snapshot._find_layout()


def test_the_references_of_a_list_are_those_of_a_list_with_the_same_objects() -> None:
    for count in (0, 1, 5, 32_768, 40_000, 100_000):
        one: list[Any] = [f"row {number}" for number in range(count)]
        references = plain_snapshot._References(one)
        for other in (one[:], [*one[:-1], "other"], one[::-1]):
            same = len(one) == len(other) and all(map(operator.is_, one, other))
            assert references.are_those_of(other) == same
