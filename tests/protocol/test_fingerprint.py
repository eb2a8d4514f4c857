"""Whether a live Sequence would be pickled to the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from enqueuer.protocol.fingerprint import Fingerprint


class Table:
    """Rows, and what lies beside them; some of it is out of pickle's sight."""

    def __init__(self) -> None:
        self.rows: list[Any] = [(number, f"row {number}") for number in range(20_000)]
        self.names: Any = {f"name {number}": number for number in range(20_000)}
        self.few = [[1, 2], {"three": 3}]
        self.array = np.arange(5_000)
        self.small = np.arange(5)
        self.cache = 0

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "cache"}


def taken(table: Any) -> Fingerprint:
    made = Fingerprint.of(table)
    assert made is not None
    return made


def test_an_unchanged_object_gives_its_large_buffers_alone() -> None:
    table = Table()
    made = taken(table)
    table.cache = 5
    for _ in range(2):
        buffers = made.compare(table)
        assert buffers is not None
        assert [buffer.nbytes for buffer in buffers] == [table.array.nbytes]


CHANGES: dict[str, Callable[[Table], object]] = {
    "a row": lambda table: table.rows.__setitem__(9, (9, "nine")),
    "an equal row": lambda table: table.rows.__setitem__(9, (9.0, "row 9")),
    "the list": lambda table: setattr(table, "rows", [*table.rows[:-1], (0, "")]),
    "a value of the dict": lambda table: table.names.update({"name 1": -1}),
    "a key of the dict": lambda table: table.names.pop("name 1"),
    "a small list in a list": lambda table: table.few[0].append(3),
    "a small array": lambda table: table.small.__setitem__(0, 7),
    "a new attribute": lambda table: setattr(table, "more", 1),
    "rows that are two attributes": lambda table: setattr(table, "few", table.rows),
    "the class": lambda table: setattr(table, "__class__", type("Other", (Table,), {})),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(change: str) -> None:
    table = Table()
    made = taken(table)
    CHANGES[change](table)
    assert made.compare(table) is None


class Plain:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"rows": [1, 2, 3]},
        {"rows": [[number] for number in range(20_000)]},
        {"rows": list(range(20_000)), "rest": [[number] for number in range(200_000)]},
        {"rows": list(range(20_000)), "lock": (number for number in range(3))},
    ],
    ids=["no rows", "few rows", "rows that can change", "much beside the rows", "what cannot be pickled"],
)
def test_there_is_no_fingerprint_where_it_would_be_wrong_or_save_nothing(attributes: dict[str, Any]) -> None:
    assert Fingerprint.of(Plain(**attributes)) is None


def test_rows_that_several_objects_share_are_compared_once() -> None:
    rows = list(range(20_000))
    shared = Plain(one=rows, other=[rows, rows])
    made = taken(shared)
    assert made.compare(shared) == []
    shared.other[1] = rows[:]
    assert made.compare(shared) is None
