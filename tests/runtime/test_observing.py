"""Snapshots of real sessions and of large fleets: what is in them, and how many bytes they take."""

from __future__ import annotations

import time

import pytest

from enqueuer.core.actions import Show
from enqueuer.core.events import Route
from enqueuer.core.observing import EVENT_BYTES, ROW_BYTES, SNAPSHOT_BYTES
from enqueuer.core.verdict import Cause, Verdict
from enqueuer.monitoring.stats import Stats
from enqueuer.monitoring.verdict_watch import Counters, VerdictWatch
from enqueuer.protocol.control_codec import decode_control, encode_control
from enqueuer.protocol.messages import MOST_ROWS
from enqueuer.protocol.observation import Snapshot
from enqueuer.runtime.observing import make_snapshot
from tests.core.driver import SESSION, Driver, Peer

VERDICT = Verdict(
    Cause.STORAGE,
    0.4,
    1_200,
    "the training waits for data 40% of its time: workers compute 35% of their items' time and wait for storage in the "
    "rest",
    "more processes than cores: add 200",
)


def fleet(workers_count: int) -> Driver:
    """That many workers with names as they are on a cluster, each with a lease and some batches behind it."""
    driver = Driver(max_queue_size=2 * workers_count)
    driver.open(10 * workers_count)
    driver._invariants.check = lambda *args, **kwargs: None  # type: ignore[method-assign] - a minute, at this size
    for number in range(workers_count):
        host = f"data-worker-{number // 16:03}"
        peer = Peer(driver, 1, host=host, supervisor=b"", pid=3_000_000 + number)
        peer.name = f"{host}-{number % 16}"
        peer.incarnation = number.to_bytes(16, "big")
        peer.route = type(peer.route)("remote", number.to_bytes(5, "big"))
        peer.join(10 * workers_count)
        peer.answer(busy=0.0123 * (1 + number), size=300_000)
    return driver


def snapshot_of(driver: Driver, first: int = 0, rows: int = MOST_ROWS, after_event: int = 0) -> Snapshot:
    watch = VerdictWatch(lambda: Counters(), 0.0)
    watch.verdict, watch.desired_slots = VERDICT, 1_200
    totals = (2**31, 2**40, 2**39, 2**38, 2**36)
    stats = Stats(True, 12, 10_000, 5_000, 1_000, 900, 2_000, 4_000, 1_000, 1_000, *totals, 86_400.5)
    return make_snapshot(driver.core.state, stats, watch, Show(Route("remote", b"o"), first, rows, after_event, 1.5))


def test_a_snapshot_of_any_fleet_takes_no_more_bytes_than_its_allowance_counts() -> None:
    driver = fleet(1_000)
    sizes = []
    for first in range(0, 1_000, MOST_ROWS):
        snapshot = snapshot_of(driver, first, after_event=2**40 if first else 0)
        encoded = encode_control(SESSION, snapshot)
        assert decode_control(encoded) == (SESSION, snapshot)
        counted = SNAPSHOT_BYTES + len(snapshot.rows) * ROW_BYTES + len(snapshot.events) * EVENT_BYTES
        assert len(encoded) <= counted
        sizes.append(len(encoded))
    assert sum(sizes) < 130_000
    assert len(encode_control(SESSION, snapshot_of(driver, rows=0, after_event=2**40))) <= SNAPSHOT_BYTES


def test_pages_hold_each_worker_once_in_the_order_of_their_arrival() -> None:
    driver = fleet(300)
    names = [row.worker_id for first in range(0, 300, 50) for row in snapshot_of(driver, first, 50).rows]
    assert names == [worker.worker_id for worker in driver.core.state.fleet] and len(names) == 300


def test_a_row_tells_the_workers_speed_and_what_it_computes() -> None:
    driver = fleet(2)
    driver.core.state.now = time.monotonic()
    rows = snapshot_of(driver).rows
    assert [row.state for row in rows] == ["serving", "serving"]
    record = next(iter(driver.core.state.fleet))
    assert rows[0].batches_count == record.batches_count > 0
    assert rows[0].received_bytes == 300_000 * rows[0].batches_count
    assert rows[0].item_seconds_p50 == pytest.approx(record.item_seconds, rel=0.15)
    lease = next(iter(record.leases))
    run, position, _ = driver.core.state.ledger.find(lease) or (None, 0, None)
    assert run is not None and rows[0].computing is not None
    assert rows[0].computing[:2] == (0, run.order[position])


def test_events_are_the_ones_that_the_observer_has_not_seen_and_the_latest_of_them() -> None:
    driver = fleet(40)
    assert [event[0] for event in snapshot_of(driver).events] == list(range(25, 41))
    assert [event[0] for event in snapshot_of(driver, after_event=38).events] == [39, 40]
    assert snapshot_of(driver, after_event=2**63).events == ()


def test_long_names_are_cut() -> None:
    driver = Driver()
    driver.open(10)
    peer = Peer(driver, 1, host="h" * 256)
    peer.name = "w" * 256
    peer.join(10)
    [row] = snapshot_of(driver).rows
    assert (len(row.worker_id), len(row.host)) == (64, 64)
