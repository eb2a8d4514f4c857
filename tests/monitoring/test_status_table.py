"""The table of `enqueuer status`: within 80 columns, whatever is in the snapshot."""

from __future__ import annotations

import pytest

from enqueuer.monitoring.status_table import describe
from enqueuer.protocol.observation import Snapshot, WorkerRow

ROW = WorkerRow("w", "host", 42, "serving", 1, 2, 100, 2**40, 0.01, 0.009, 0.02, (3, 17, 0.25), 2**28)
SNAPSHOT = Snapshot(
    *("0.2.0", "host", 42, 60.5, 1.5, 3, 20, 50, 1, 0, 5, 12, 2, 2, 1, 0),
    *(4_000, 2**40, 2**39, 1.0, 12.5, 1.0, 80.0, 0.5, 0, 1, 0, 0, 0, 0, 0, 7),
    *("too few workers", 0.2, 4, "the training waits for data 20% of its time", "add 2", 30.0, 2_000, (0, 7, 9)),
    *((), 1, 0, (ROW,), 1.25),
    *(2**31, 2**32, 2**38, 70.5, 2**33, 4.5),
    *(83.3, 0.02, 0.97, 0.9, 0.0, 0.0, 0.0, 0.4, 0.7),
)
LONGEST = ROW._replace(worker_id="w" * 64, host="h" * 64, state="draining", batches_count=10**9, item_seconds_p95=1e9)


def table(snapshot: Snapshot, most_workers: int | None = None) -> str:
    return "\n".join(describe(snapshot, most_workers=most_workers))


def test_the_table_says_what_the_training_does() -> None:
    text = table(SNAPSHOT)
    for part in (
        "trainer 42 on host, Enqueuer 0.2.0, for 1 min 0 s",
        "epoch     3, 20 of 50 batches taken",
        "rate      66.7 batches/s in the last 30 s (4000 batches in all)",
        "waiting   20.0% of that time",
        "queue     1 ready, 0 ahead of turn, 5 leased of at most 12",
        "50% of it through shared memory",
        "memory    2.15 GB, and 4.29 GB of workers",
        "faults    1 retry, 7 lost workers",
        "verdict   the training waits for data 20% of its time: add 2",
        "slots     2, 4 would keep up",
        "workers   1 serving",
        "3/17 250 ms",
    ):
        assert part in text
    assert "no batch" not in text


@pytest.mark.parametrize(
    "snapshot",
    [
        SNAPSHOT,
        SNAPSHOT._replace(rows=(), window_seconds=0.0, desired_slots=None, bytes_total=0, queue_limit=0, length=0),
        SNAPSHOT._replace(
            host="h" * 64,
            library_version="v" * 20,
            elapsed_seconds=1e7,
            sentence="s" * 300,
            cure="c" * 300,
            rows=(LONGEST, LONGEST._replace(computing=(10**6, 10**12, 1e7))),
        ),
    ],
)
def test_no_line_is_longer_than_80_columns(snapshot: Snapshot) -> None:
    assert max(map(len, table(snapshot).splitlines())) <= 80


def test_of_a_large_fleet_the_workers_worth_a_look_are_shown() -> None:
    rows = [ROW._replace(worker_id=f"w{n}", computing=(0, n, 0.01 * n)) for n in range(1_000)]
    rows[500] = rows[500]._replace(state="joining", computing=None)
    text = table(SNAPSHOT._replace(rows=tuple(rows)), most_workers=3)
    shown = [line.split()[0] for line in text.splitlines()[-4:-1]]
    assert shown == ["w500", "w999", "w998"]
    assert text.endswith("… and 997 more workers (--all)") and "999 serving, 1 joining" in text
    assert len(table(SNAPSHOT._replace(rows=tuple(rows))).splitlines()) > 1_000


def test_times_of_a_worker_without_a_batch_are_dashes() -> None:
    row = ROW._replace(item_seconds_p50=0.0, item_seconds_p95=0.0, computing=None)
    assert table(SNAPSHOT._replace(rows=(row,))).splitlines()[-1].split()[-3:] == ["–", "–", "–"]
