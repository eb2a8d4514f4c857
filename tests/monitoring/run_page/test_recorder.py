"""A record made of real snapshots: what is in it, that the changes add up to it, and its bound."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any

from enqueuer.monitoring.run_page.recorder import Recorder
from enqueuer.monitoring.run_page.workers import Workers
from enqueuer.protocol.observation import Snapshot, WorkerRow
from tests.support.recorded import recorded_pages

PAGES = recorded_pages()


def of_workers(at: float, names: list[str], *, first: int = 0, total: int | None = None) -> Snapshot:
    rows = tuple(
        WorkerRow(name, "node", 1, "serving", 1, 1, 5, 500, 0.02, 0.02, 0.03, (0, 1, 0.01), 1_000) for name in names
    )
    total = len(names) if total is None else total
    return PAGES[0]._replace(elapsed_seconds=at, events=(), rows=rows, first_row=first, rows_total=total)


def test_a_record_has_the_run_in_it() -> None:
    recorder = Recorder()
    for page in PAGES:
        assert recorder.is_of(page)
        recorder.add(page)
    record = recorder.to_json()
    last = PAGES[-1]
    assert record["now"]["batches_total"] == last.batches_total and record["now"]["sentence"] == last.sentence
    columns = dict(zip(["seconds", *record["columns"]], record["history"], strict=True))
    assert columns["seconds"] == sorted(columns["seconds"]) and len(columns["seconds"]) > 10
    assert max(columns["rate"]) > 10 and all(0 <= share <= 1 for share in columns["wait"] if share is not None)
    assert [event[1] for event in record["events"]].count("died") == 1
    killed = [row for row in record["workers"] if row[3] == "gone"]
    assert len(killed) == 1 and len(record["workers"]) >= 3
    assert abs(sum(epoch["batches"] for epoch in record["epochs"]) - last.batches_total) <= PAGES[0].batches_total
    assert json.loads(json.dumps(record, allow_nan=False)) is not None


def test_the_changes_make_of_an_earlier_record_the_present_one() -> None:
    recorder = Recorder()
    shown: dict[str, Any] = {}
    changes_count = 0
    for page in PAGES:
        recorder.add(page)
        changes = recorder.take_changes()
        if changes is None:
            shown = json.loads(json.dumps(recorder.to_json()))
            continue
        changes_count += 1
        apply(shown, json.loads(json.dumps(changes)))
    assert changes_count > 10
    assert shown == json.loads(json.dumps(recorder.to_json()))


def apply(shown: dict[str, Any], changes: dict[str, Any]) -> None:
    """As the page does."""

    def put(values: list[Any], at: int, value: Any) -> None:
        values[at : at + 1] = [value]

    shown["now"] = changes["now"]
    at, point = changes["point"]
    for column, value in zip(shown["history"], point, strict=True):
        put(column, at, value)
    shown["events"] += changes["events"]
    for number, *row in changes["workers"]:
        put(shown["workers"], number, row)
    at, number, levels = changes["heat"]
    put(shown["heat"]["numbers"], at, number)
    put(shown["heat"]["columns"], at, b64encode(b64decode(levels)).decode())
    first, epochs = changes["epochs"]
    shown["epochs"][first:] = epochs


def test_a_days_long_run_stays_as_small_as_an_hours() -> None:
    recorder = Recorder()
    for second in range(0, 200_000, 100):
        seen = of_workers(float(second), ["a", "b"])
        recorder.add(seen._replace(epoch=second // 200, batches_total=10 * second, retries_count=second))
        recorder.add_faults([(float(second), "x" * 3_000)], second)
    assert len(json.dumps(recorder.to_json())) < 1.5e6 and len(recorder.to_json()["faults"]) <= 400
    assert len(recorder.to_json()["epochs"]) <= 200


def test_batches_are_counted_for_the_epochs_that_they_are_of() -> None:
    recorder = Recorder()
    base = PAGES[0]._replace(length=100, events=(), rows=(), rows_total=0)
    for second, epoch, taken, total in ((0, 0, 40, 40), (1, 0, 90, 90), (2, 1, 30, 130), (3, 4, 20, 420)):
        recorder.add(base._replace(elapsed_seconds=float(second), epoch=epoch, taken_count=taken, batches_total=total))
    entries = [(one["first"], one["last"], one["batches"]) for one in recorder.to_json()["epochs"]]
    assert entries == [(0, 0, 60), (1, 1, 100), (2, 3, 200), (4, 4, 20)]


def test_an_observer_that_comes_late_shows_the_part_of_the_slots_time_that_it_has_seen() -> None:
    recorder = Recorder()
    base = PAGES[0]._replace(slots_count=2, events=(), rows=(), rows_total=0)
    for at, busy in ((1_000.0, 1_900.0), (1_010.0, 1_905.0)):
        recorder.add(base._replace(elapsed_seconds=at, busy_seconds=busy))
    now = recorder.to_json()["now"]
    assert (now["slot_seconds"], now["computed_seconds"]) == (20.0, 5.0)


def test_events_that_the_observer_has_missed_are_counted() -> None:
    recorder = Recorder()
    events = ((1, 0.5, "joined", "a on node"), (9, 2.0, "left", "a on node"))
    recorder.add(PAGES[0]._replace(events=events))
    assert [event[1] for event in recorder.to_json()["events"]] == ["joined", "more", "left"]
    assert recorder.to_json()["events"][1][2].startswith("7 earlier changes")
    assert recorder.last_event == 9


def test_a_worker_that_two_rounds_have_not_shown_is_gone_and_may_come_back() -> None:
    workers = Workers()
    for at, names in ((0.0, ["a", "b"]), (2.0, ["a"]), (4.0, ["a"]), (6.0, ["a"])):
        workers.add(of_workers(at, names))
    assert [row[3] for row in workers.to_json()] == ["serving", "gone"]
    workers.add(of_workers(8.0, ["a", "b"]))
    assert [row[3] for row in workers.to_json()] == ["serving", "serving"]


def test_a_large_fleet_is_seen_in_rounds_and_nobody_is_gone_by_that() -> None:
    workers = Workers()
    for turn in range(40):
        first = turn % 4 * 5
        workers.add(of_workers(float(turn), [f"w-{first + at}" for at in range(5)], first=first, total=20))
    assert len(workers.to_json()) == 20 and all(row[3] == "serving" for row in workers.to_json())


def test_beyond_the_bound_the_earliest_that_are_gone_make_room() -> None:
    workers = Workers(most=10)
    for life in range(50):
        workers.add(of_workers(4.0 * life, [f"w-{life}", "steady"]))
        workers.add(of_workers(4.0 * life + 2, ["steady"]))
        workers.add(of_workers(4.0 * life + 3, ["steady"]))
    names = [row[0] for row in workers.to_json()]
    assert len(names) <= 10 and "w-49" in names and "steady" in names and workers.version > 0
    workers.add(of_workers(300.0, [f"v-{number}" for number in range(30)]))
    assert len(workers.to_json()) <= 10 and workers.left_out_count >= 20
