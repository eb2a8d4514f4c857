"""Statistics of running sessions: what waits for the trainer, the times, and the line a minute."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from enqueuer import SequenceEnqueuer
from enqueuer.monitoring import minute_line
from tests.support.sequences import Bare
from tests.support.waiting import wait_until


@pytest.fixture
def running() -> Iterator[SequenceEnqueuer]:
    # A Sequence without on_epoch_end: processes compute the next epoch ahead.
    with SequenceEnqueuer(Bare(length=6), use_multiprocessing=True) as enqueuer:
        enqueuer.start(workers=1, max_queue_size=10)
        yield enqueuer


def test_batches_of_the_next_epoch_count_as_ready_once_they_are_computed(running: SequenceEnqueuer) -> None:
    list(running.epoch())
    # All six of the next epoch; those of the one after it follow them.
    wait_until(lambda: running.stats().ready_count >= 6, what="the next epoch")
    wait_until(lambda: running.stats().received_count == 0, what="no batch that waits for an earlier one")
    assert running.stats().epoch == 0
    next(running.get())
    assert running.stats().epoch == 1


def test_times_begin_with_the_start_and_end_with_the_stop(running: SequenceEnqueuer) -> None:
    next(running.get())
    stats = running.stats()
    assert 0 < stats.startup_wait_seconds <= stats.startup_seconds <= stats.elapsed_seconds
    assert stats.startup_wait_seconds == stats.wait_seconds
    running.stop()
    assert running.stats().elapsed_seconds == running.stats().elapsed_seconds > stats.elapsed_seconds


def test_without_workers_all_of_next_is_waiting() -> None:
    with SequenceEnqueuer(Bare(length=6)) as enqueuer:
        enqueuer.start(workers=0)
        assert len(list(enqueuer.epoch())) == 6
        stats = enqueuer.stats()
    assert 0 < stats.startup_seconds < stats.elapsed_seconds
    assert 0 < stats.wait_share <= 1
    assert stats.batches_per_second > 0
    assert "rate" in str(stats)


def test_a_running_session_logs_a_line_a_minute(
    running: SequenceEnqueuer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From the I/O thread's own timers, also while nothing happens."""
    caplog.set_level(logging.INFO, "enqueuer")
    monkeypatch.setattr(minute_line, "LINE_SECONDS", 0.2)
    next(running.get())
    line = re.compile(r"batches/s, waited \d+% of the time, workers 1, queue \d+ of 11; epoch 0, batch 1 of 6")
    wait_until(lambda: len(line.findall(caplog.text)) >= 2, what="two lines")


class Large(Bare):
    """Batches of 1 MB, which come through shared memory."""

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full((250_000,), index, np.float32)


def test_bytes_are_told_by_their_way_and_by_worker() -> None:
    with SequenceEnqueuer(Large(length=6), use_multiprocessing=True) as enqueuer:
        enqueuer.start(workers=1, max_queue_size=2)
        next(enqueuer.get())
        stats = enqueuer.stats()
        assert 1_000_000 <= stats.shared_bytes_total <= stats.bytes_total
        assert sum(worker.received_bytes for worker in stats.workers) == stats.bytes_total
        assert stats.network_bytes_total == 0
        assert stats.memory_bytes > 10_000_000
        # Told with a heartbeat.
        wait_until(lambda: enqueuer.stats().workers[0].memory_bytes > 10_000_000, 60, "the worker's memory")
    with SequenceEnqueuer(Large(length=6), use_multiprocessing=True, shared_memory=False) as enqueuer:
        enqueuer.start(workers=1, max_queue_size=2)
        next(enqueuer.get())
        stats = enqueuer.stats()
        assert stats.shared_bytes_total == 0 and stats.bytes_total >= 1_000_000


def test_the_times_of_a_workers_items_are_told_as_quantiles(running: SequenceEnqueuer) -> None:
    next(running.get())
    [worker] = running.stats().workers
    assert 0 < worker.item_seconds_p50 <= worker.item_seconds_p95


def test_joins_and_losses_are_told_with_their_times(running: SequenceEnqueuer) -> None:
    next(running.get())
    before = running.stats()
    [joined] = before.events
    [worker] = before.workers
    assert (joined.what, joined.worker) == ("joined", f"{worker.worker_id} on {worker.host}")
    # Both count from the start, and begin a moment apart.
    assert 0 < joined.seconds < before.elapsed_seconds + 30
    os.kill(worker.pid, signal.SIGKILL)

    def whats() -> list[str]:
        return [event.what for event in running.stats().events]

    # The worker is replaced; what its broken connection adds depends on which news comes first.
    wait_until(lambda: whats().count("joined") == 2 and "died" in whats(), 60, "another worker")
    assert all(event.number == number for number, event in enumerate(running.stats().events, 1))


def test_the_verdict_is_part_of_the_statistics_also_after_the_end(running: SequenceEnqueuer) -> None:
    next(running.get())
    assert running.stats().verdict == running.verdict()
    running.stop()
    assert running.stats().verdict == running.verdict()
