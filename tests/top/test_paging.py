"""Requests of `enqueuer top`, against the allowances of a real coordinator: what a trainer drops, nobody sees."""

from __future__ import annotations

import pytest

from enqueuer.core.events import Route
from enqueuer.core.observers import Observers
from enqueuer.core.observing import EVENT_BYTES, ROW_BYTES, SNAPSHOT_BYTES
from enqueuer.observer import NO_EVENT
from enqueuer.protocol.messages import MOST_EVENTS, MOST_ROWS
from enqueuer.protocol.observation import Snapshot
from enqueuer.top.paging import INTERVAL, Paging
from tests.monitoring.test_status_table import ROW, SNAPSHOT

ROUTE = Route("observers", b"o")


class Trainer:
    """Answers as the core does, with a clock of its own."""

    def __init__(self, workers_count: int, events_per_second: float = 0.0) -> None:
        self.workers_count, self.events_per_second = workers_count, events_per_second
        self.observers = Observers()
        self.now = 1_000.0

    def answer(self, paging: Paging) -> Snapshot:
        newest = int(self.now * self.events_per_second)
        rows = range(self.workers_count)[paging.first_row : paging.first_row + min(paging.rows_count, MOST_ROWS)]
        events = range(paging.after_event + 1, newest + 1)[-MOST_EVENTS:] if paging.after_event != NO_EVENT else []
        nbytes = SNAPSHOT_BYTES + len(rows) * ROW_BYTES + len(events) * EVENT_BYTES
        seconds = self.observers.take(ROUTE, nbytes, self.now)
        assert seconds is not None, f"{len(rows)} workers and {len(events)} events are too many now"
        return SNAPSHOT._replace(
            elapsed_seconds=self.now,
            first_row=paging.first_row,
            rows=tuple(ROW._replace(pid=number) for number in rows),
            rows_total=self.workers_count,
            events=tuple((number, self.now, "joined", f"w-{number}") for number in events),
            seconds_to_ask=seconds,
        )

    def watch(self, paging: Paging, seconds: float) -> list[Snapshot]:
        """The answers of this time."""
        end, pages = self.now + seconds, []
        while self.now < end:
            pages.append(self.answer(paging))
            self.now += paging.take(pages[-1])
        return pages


@pytest.mark.parametrize("events_per_second", [0.0, 0.3, 40.0])
@pytest.mark.parametrize("workers_count", [0, 1, 3, 10, 63, 64, 65, 300, 1_000])
def test_no_request_is_dropped_and_each_worker_comes_again(workers_count: int, events_per_second: float) -> None:
    trainer, paging = Trainer(workers_count, events_per_second), Paging()
    trainer.watch(paging, 1_000.0)
    pages = trainer.watch(paging, 2_000.0)
    assert {row.pid for page in pages for row in page.rows} == set(range(workers_count))
    assert len(pages) > 1_500, "most seconds have an answer"
    if 0 < events_per_second < 1:
        numbers = [event[0] for page in pages for event in page.events]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and len(numbers) > 500, "each event, once"


def test_the_first_round_brings_the_whole_fleet_at_once() -> None:
    trainer, paging = Trainer(1_000), Paging()
    began = trainer.now
    pages = trainer.watch(paging, 0.5)
    assert trainer.now - began == INTERVAL and len(pages) == 16
    assert [row.pid for page in pages for row in page.rows] == list(range(1_000))


def test_a_small_fleet_comes_each_second() -> None:
    pages = Trainer(10).watch(Paging(), 60.0)
    assert len(pages) == 60 and all(len(page.rows) == 10 for page in pages)


def test_the_events_of_another_session_count_anew() -> None:
    trainer, paging = Trainer(2, events_per_second=1.0), Paging()
    trainer.watch(paging, 10.0)
    assert paging.after_event > 1_000
    trainer.now = 3.0
    trainer.observers = Observers()
    pages = trainer.watch(paging, 3.0)
    assert [event[0] for event in pages[-1].events][-1] == 5
