from __future__ import annotations

import pytest

from enqueuer.monitoring.worker_table import ORDERS, WorkerTable
from enqueuer.protocol.observation import Snapshot, WorkerRow
from tests.monitoring.test_status_table import ROW, SNAPSHOT

ORDER_OF = {order.name: order for order in ORDERS}


def worker(name: str, **fields: object) -> WorkerRow:
    return ROW._replace(worker_id=name, **fields)  # type: ignore[arg-type]


def page(seconds: float, *rows: WorkerRow, first: int = 0, total: int | None = None) -> Snapshot:
    return SNAPSHOT._replace(
        elapsed_seconds=seconds,
        rows=rows,
        first_row=first,
        rows_total=first + len(rows) if total is None else total,
    )


def names(table: WorkerTable, order: str = "worker", *, is_reversed: bool = False, words: str = "") -> list[str]:
    return [seen.row.worker_id for seen in table.select(ORDER_OF[order], is_reversed=is_reversed, words=words)]


def test_pages_fill_the_table() -> None:
    table = WorkerTable()
    table.add(page(1.0, worker("a"), worker("b"), total=3))
    table.add(page(1.1, worker("c"), first=2))
    assert names(table) == ["a", "b", "c"] and len(table) == 3
    assert table.oldest_seconds(2.0) == 1.0 and WorkerTable().oldest_seconds(2.0) == 0.0


def test_a_worker_that_a_page_of_all_does_not_bring_has_left() -> None:
    table = WorkerTable()
    table.add(page(1.0, worker("a"), worker("b")))
    table.add(page(2.0, worker("a")))
    assert names(table) == ["a"]
    table.add(page(3.0, worker("a"), worker("b")))
    table.add(page(4.0, worker("a"), total=2))
    assert names(table) == ["a", "b"], "the round goes on"


def test_a_worker_that_slips_between_two_pages_stays() -> None:
    table = WorkerTable()
    for seconds, skipped in ((1.0, None), (5.0, "b"), (9.0, None)):
        rows = [worker(name) for name in ("a", "b", "c") if name != skipped]
        table.add(page(seconds, rows[0], total=len(rows)))
        table.add(page(seconds + 1, *rows[1:], first=1))
        assert names(table) == ["a", "b", "c"]


def test_a_worker_that_two_rounds_of_pages_do_not_bring_has_left() -> None:
    table = WorkerTable()
    table.add(page(1.0, worker("a"), worker("b"), worker("c")))
    for seconds, expected in ((2.0, ["a", "b", "c"]), (4.0, ["a", "c"])):
        table.add(page(seconds, worker("a"), total=2))
        table.add(page(seconds + 1, worker("c"), first=1))
        assert names(table) == expected


def test_an_event_tells_of_the_end_at_once() -> None:
    table = WorkerTable()
    table.add(page(1.0, worker("a"), worker("b")))
    told = page(2.0, worker("a"), total=1_000)
    table.add(told._replace(events=((7, 1.5, "died", "b on host"), (8, 0.5, "died", "a on host"))))
    assert names(table) == ["a"], "it has come back since"


def test_a_rate_is_that_of_several_seconds() -> None:
    table = WorkerTable()
    rates = []
    for second in range(20):
        table.add(page(float(second), worker("a", batches_count=second // 2)))
        rates.append(table.select(ORDERS[0])[0].batches_per_second)
    assert rates[0] is None
    assert all(rate == pytest.approx(0.5, abs=0.15) for rate in rates[8:] if rate is not None)
    table.add(page(20.0, worker("a", batches_count=0)))
    assert table.select(ORDERS[0])[0].batches_per_second == 0.0, "it was started again"


def test_names_are_sorted_by_their_numbers_and_equal_keys_by_name() -> None:
    table = WorkerTable()
    table.add(page(1.0, *(worker(f"w-{number}") for number in (10, 9, 2))))
    assert names(table) == ["w-2", "w-9", "w-10"]
    assert names(table, "p95") == ["w-2", "w-9", "w-10"]
    assert names(table, is_reversed=True) == ["w-10", "w-9", "w-2"]


@pytest.mark.parametrize(
    ("order", "fields"),
    [
        ("host", [{"host": "h-2"}, {"host": "h-10"}]),
        ("state", [{"state": "draining"}, {"state": "serving"}]),
        ("p50", [{"item_seconds_p50": 2.0}, {"item_seconds_p50": 1.0}]),
        ("p95", [{"item_seconds_p95": 2.0}, {"item_seconds_p95": 1.0}]),
        ("bytes", [{"received_bytes": 2}, {"received_bytes": 1}]),
        ("memory", [{"memory_bytes": 2}, {"memory_bytes": 1}]),
        ("for", [{"computing": (0, 1, 2.0)}, {"computing": None}]),
    ],
)
def test_each_order_puts_the_worker_worth_a_look_first(order: str, fields: list[dict[str, object]]) -> None:
    table = WorkerTable()
    table.add(page(1.0, worker("last", **fields[1]), worker("worth", **fields[0])))
    assert names(table, order) == ["worth", "last"]
    assert names(table, order, is_reversed=True) == ["last", "worth"]


def test_words_are_looked_for_in_name_host_and_state() -> None:
    table = WorkerTable()
    table.add(page(1.0, worker("a", host="gpu-1"), worker("b", host="gpu-2"), worker("c", state="draining")))
    assert names(table, words="GPU") == ["a", "b"]
    assert names(table, words="gpu b") == ["b"]
    assert names(table, words="drain") == ["c"]
    assert names(table, words="nobody") == []


def test_the_fastest_come_first() -> None:
    table = WorkerTable()
    for second in (0.0, 2.0):
        rows = [worker(name, batches_count=int(rate * second)) for name, rate in (("slow", 1), ("fast", 9))]
        table.add(page(second, *rows))
    assert names(table, "batch/s") == ["fast", "slow"]
