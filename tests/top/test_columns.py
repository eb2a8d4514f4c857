from __future__ import annotations

import pytest

from enqueuer.monitoring.worker_table import ORDERS, SeenWorker
from enqueuer.protocol.observation import WorkerRow
from enqueuer.top.columns import head, layout, line
from enqueuer.top.details import facts
from tests.monitoring.test_status_table import ROW


def seen(row: WorkerRow) -> SeenWorker:
    return SeenWorker(row, 10.0, 0, ((5.0, row.batches_count - 50), (7.0, row.batches_count - 20)))


LONG = ROW._replace(
    worker_id="data-worker-017-local-3",
    host="data-worker-017.cluster.example.org",
    state="draining",
    batches_count=10**9,
    received_bytes=10**15,
    memory_bytes=999 * 10**9,
    item_seconds_p50=1e9,
    computing=(12, 1_048_576, 12.345),
)


def test_a_row_says_what_the_worker_does() -> None:
    workers = [seen(ROW._replace(memory_bytes=47 * 10**6))]
    text = line(layout(120, workers), workers[0])
    assert text.split() == ["w", "host", "serving", "10.0", "9ms", "20ms", "1.1TB", "47MB", "250ms", "3/17"]


@pytest.mark.parametrize("width", [76, 78, 118, 198])
@pytest.mark.parametrize("row", [ROW, LONG])
def test_no_line_is_wider_than_the_table(width: int, row: WorkerRow) -> None:
    columns = layout(width, [seen(row)])
    assert len(line(columns, seen(row))) <= width
    title = head(columns, "worker", is_descending=False)
    assert len(title) <= width and "worker▲" in title


@pytest.mark.parametrize("width", [76, 198])
@pytest.mark.parametrize("order", [order.name for order in ORDERS])
def test_the_arrow_of_the_order_is_seen_in_a_column_as_narrow_as_its_title(width: int, order: str) -> None:
    columns = layout(width, [seen(LONG)])
    title = head(columns, order, is_descending=True)
    assert title.count("▼") == 1 and "…▼" not in title and len(title) <= width


def test_what_does_not_fit_is_cut_where_the_reader_sees_it() -> None:
    text = line(layout(76, [seen(LONG)]), seen(LONG))
    assert text.startswith("data-wo") and text.count("…") >= 2
    wide = line(layout(200, [seen(LONG)]), seen(LONG))
    assert LONG.worker_id in wide and LONG.host in wide and "12/1048576" in wide and "…" not in wide


def test_what_is_not_known_is_a_dash() -> None:
    worker = SeenWorker(
        ROW._replace(item_seconds_p50=0.0, item_seconds_p95=0.0, computing=None, memory_bytes=0, received_bytes=0),
        10.0,
        0,
        ((10.0, 0), (10.0, 0)),
    )
    assert line(layout(120, [worker]), worker).split()[3:] == ["–"] * 6
    assert "– p50, – p95" in dict(facts(worker, 10.0)).values()


def test_each_order_of_the_table_is_a_columns_title() -> None:
    titles = [column.title for column in layout(120, [])]
    assert {order.name for order in ORDERS} <= set(titles)
