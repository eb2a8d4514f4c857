"""The queue's depth, the placement of the computing, and the death of a worker."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from enqueuer import NoWorkersError, SequenceEnqueuer
from tests.support.failing import Failing
from tests.support.journal import Entry, Gate, Journal
from tests.support.placement import Placement, passes, take
from tests.support.sequences import Delayed, Gated, Journaled, Killer
from tests.support.waiting import settled, wait_until


@pytest.mark.parametrize("max_queue_size", [1, 6])
def test_start_alone_requests_max_queue_size_and_at_most_a_batch_a_slot_more(
    placement: Placement, journal: Journal, max_queue_size: int
) -> None:
    running = placement.running(Journaled(length=60, journal=journal.path), 2, max_queue_size)
    most = max_queue_size + placement.slots_count(2)
    wait_until(lambda: len(journal.distinct_requests()) > max_queue_size, what="max_queue_size + 1 requests")
    assert settled(lambda: len(journal.distinct_requests())) <= most
    take(running.get(), 5)
    wait_until(lambda: len(journal.distinct_requests()) > max_queue_size + 5, what="requests for those taken")
    assert settled(lambda: len(journal.distinct_requests())) <= most + 5


def test_max_queue_size_is_10_by_default(threads: Placement, journal: Journal) -> None:
    made = threads.enqueuer(Journaled(length=60, journal=journal.path))
    made.start()
    wait_until(lambda: len(journal.distinct_requests()) >= 10, what="ten requests")
    assert settled(lambda: len(journal.distinct_requests())) <= 11


@pytest.mark.parametrize("max_queue_size", [0, -1])
def test_without_a_bound_the_whole_epoch_is_requested_and_no_more(
    placement: Placement, journal: Journal, max_queue_size: int
) -> None:
    running = placement.running(Journaled(length=30, journal=journal.path), max_queue_size=max_queue_size)
    wait_until(lambda: len(journal.distinct_requests()) >= 30, what="the whole epoch")
    assert settled(lambda: len(journal.distinct_requests())) == 30
    assert take(running.get(), 45) == passes(30, 2)[:45]


def test_threads_compute_in_the_trainers_process_off_the_main_thread(threads: Placement, journal: Journal) -> None:
    take(threads.running(Journaled(journal=journal.path)).get(), 8)
    items = journal.entries("item")
    assert {item.pid for item in items} == {os.getpid()}
    assert not any(item.in_main_thread for item in items)


def test_processes_never_compute_in_the_trainers_process(separate_placement: Placement, journal: Journal) -> None:
    take(separate_placement.running(Journaled(journal=journal.path)).get(), 8)
    assert os.getpid() not in {item.pid for item in journal.entries("item")}


def overlapping(items: list[Entry], done: list[Entry]) -> bool:
    """Whether some worker began an item while another was inside one."""
    ends = {(entry.version, entry.index): entry.at for entry in done}
    spans = [(item.at, ends[item.version, item.index], (item.pid, item.thread)) for item in items]
    return any(first[2] != second[2] and first[0] < second[0] < first[1] for first in spans for second in spans)


def test_workers_overlap(placement: Placement, journal: Journal) -> None:
    running = placement.running(Delayed(length=8, journal=journal.path, longest=0.1), workers=2)
    wait_until(lambda: running.stats().slots_count == 2, what="two slots")
    take(running.get(), 24)
    running.stop()
    done = journal.entries("done")
    finished = {(entry.version, entry.index) for entry in done}
    items = [item for item in journal.entries("item") if (item.version, item.index) in finished]
    assert overlapping(items, done)


def test_workers_none_is_one_a_cpu(threads: Placement) -> None:
    made = threads.enqueuer(Journaled(length=4))
    made.start(None)
    assert take(made.get(), 8) == passes(4, 2)
    assert made.stats().slots_count == (os.cpu_count() or 1)


def test_negative_workers_are_a_value_error(live_placement: Placement) -> None:
    made = live_placement.enqueuer(Journaled())
    with pytest.raises(ValueError, match="workers"):
        made.start(-1)
    assert not made.is_running()
    live_placement.start(made)
    assert next(made.get()) == (0, 0)


def test_more_processes_than_fit_the_machine_are_a_value_error() -> None:
    enqueuer = SequenceEnqueuer(Journaled(), use_multiprocessing=True)
    with pytest.raises(ValueError, match="do not fit this machine"):
        enqueuer.start(10**7)
    assert not enqueuer.is_running()


def test_workers_0_computes_in_the_consumers_own_thread_on_demand(threads: Placement, journal: Journal) -> None:
    made = threads.enqueuer(Journaled(length=3, journal=journal.path))
    made.start(0)
    assert made.is_running()
    stream = made.get()
    assert journal.requested() == []
    assert next(stream) == (0, 0)
    assert journal.requested() == [0]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(take, stream, 2).result(10) == [(0, 1), (0, 2)]
    assert take(stream, 4) == [*passes(3, 1, first=1), (2, 0)]
    threads_seen = [item.in_main_thread for item in journal.entries("item")]
    assert threads_seen == [True, False, False, True, True, True, True]
    made.stop()
    assert list(stream) == []


def test_workers_0_raises_and_restarts_like_the_others(threads: Placement) -> None:
    made = threads.enqueuer(Failing())
    for _ in range(2):
        made.start(0)
        stream = made.get()
        assert [index for _, index in take(stream, 3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="bad"):
            next(stream)
        assert not made.is_running()


def test_two_enqueuers_at_once_are_independent(live_placement: Placement) -> None:
    first = live_placement.running(Journaled(length=3), workers=1)
    second = live_placement.running(Journaled(length=5), workers=1)
    streams = first.get(), second.get()
    taken: tuple[list[object], list[object]] = ([], [])
    for _ in range(10):
        for stream, batches in zip(streams, taken, strict=True):
            batches.append(next(stream))
    assert list(taken) == [passes(3, 4)[:10], passes(5, 2)]
    first.stop()
    assert take(second.get(), 3) == [(2, 0), (2, 1), (2, 2)]


def test_defect_05_is_absent_a_worker_that_dies_inside_a_batch_costs_nothing_but_time(
    separate_placement: Placement, journal: Journal
) -> None:
    # One worker, so that no batch moves to an idle one and is begun by both; the remote ones are two.
    running = separate_placement.running(Killer(length=10, journal=journal.path, fatal=4), workers=1)
    assert take(running.get(), 20) == passes(10, 2)
    attempts_count = journal.requested(version=0).count(4)
    assert attempts_count == 2 or (separate_placement.name == "remote" and attempts_count > 2)


def test_a_worker_killed_from_outside_costs_nothing_but_time(separate_placement: Placement, journal: Journal) -> None:
    running = separate_placement.running(Delayed(length=10, journal=journal.path), 2, max_queue_size=3)
    stream = running.get()
    taken = take(stream, 3)
    os.kill(journal.entries("item")[-1].pid, signal.SIGKILL)
    assert taken + take(stream, 27) == passes(10, 3)
    assert running.stats().lost_workers_count == 1


def test_one_worker_serves_many_epochs(processes: Placement, journal: Journal) -> None:
    take(processes.running(Journaled(length=2, journal=journal.path), workers=1).get(), 20)
    assert len({item.pid for item in journal.entries("item")}) == 1


def test_stats_say_where_the_run_stands(placement: Placement) -> None:
    running = placement.running(Journaled(length=8), workers=2, max_queue_size=3)
    wait_until(lambda: running.stats().slots_count == 2, what="two slots")
    take(running.get(), 13)
    stats = running.stats()
    assert stats.running
    assert (stats.epoch, stats.length, stats.taken_count, stats.batches_total) == (1, 8, 5, 13)
    assert stats.ready_count + stats.received_count + stats.leased_count <= 3 + 2
    assert stats.workers_count == (1 if placement.name == "threads" else 2)
    assert stats.wait_seconds >= 0
    assert (stats.retries_count, stats.skipped, stats.malformed_count) == (0, (), 0)
    running.stop()
    assert not running.stats().running


def test_wait_for_workers_returns_when_they_are_there(separate_placement: Placement) -> None:
    running = separate_placement.running(Journaled(), workers=2)
    running.wait_for_workers(2, timeout=20)
    assert running.stats().workers_count == 2
    with pytest.raises((NoWorkersError, TimeoutError)):
        running.wait_for_workers(50, timeout=0.2)
    assert next(running.get()) == (0, 0)


def test_a_remote_worker_may_come_late(journal: Journal, remote: Placement) -> None:
    running = remote.running(Journaled(length=4, journal=journal.path))
    assert running.endpoint is not None
    assert running.endpoint.startswith("tcp://127.")
    assert take(running.get(), 8) == passes(4, 2)


def test_local_and_remote_workers_share_one_epoch(remote: Placement, journal: Journal) -> None:
    running = remote.enqueuer(Delayed(length=30, journal=journal.path), use_multiprocessing=True)
    running.start(1, 6)
    running.wait_for_workers(3, timeout=20)
    assert take(running.get(), 60) == passes(30, 2)
    assert len({item.pid for item in journal.entries("item")}) == 3


def test_a_consumer_waits_without_an_end_for_workers_and_stop_releases_it() -> None:
    made = SequenceEnqueuer(Journaled(), bind="tcp://127.0.0.1:*")
    made.start(0)
    with ThreadPoolExecutor(1) as pool:
        consumer = pool.submit(lambda: list(made.get()))
        assert threading.active_count() > 1
        made.stop()
        assert consumer.result(10) == []


def test_a_slow_worker_does_not_hold_the_others(placement: Placement, journal: Journal, gate: Gate) -> None:
    running = placement.running(Gated(length=9, journal=journal.path, gate=gate.path, last_held=0), workers=2)
    wait_until(lambda: len(journal.entries("done")) == 8, what="all others on the other worker")
    gate.open()
    assert take(running.get(), 9) == passes(9, 1)
