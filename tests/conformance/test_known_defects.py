"""The defects of Keras' enqueuers, shown absent. The numbers are those of the table in ``README.md``."""

from __future__ import annotations

import gc
import itertools
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from enqueuer import SequenceEnqueuer, SequenceError
from tests.support.failing import CustomError, Failing, OneWayError, Unending, Unmeasurable
from tests.support.journal import Gate, Journal
from tests.support.placement import Placement, passes, take
from tests.support.sequences import HELD_LOCK, Gated, Growing, Hooked, Journaled, Locking, Nones
from tests.support.waiting import settled, wait_until

Hook = Callable[[Callable[[Any], None]], str]


@pytest.mark.proves("`on_epoch_end` or `__len__` raises")
def test_defect_01_is_absent_an_exception_in_on_epoch_end_comes_out_of_next(placement: Placement) -> None:
    running = placement.running(Unending(length=3))
    stream = running.get()
    assert take(stream, 3) == passes(3, 1)
    with pytest.raises(CustomError, match="no end") as caught:
        next(stream)
    assert caught.value.args == (0, "no end")
    assert not running.is_running()
    assert list(stream) == []
    placement.start(running)
    assert [index for _, index in take(running.get(), 3)] == [0, 1, 2]


@pytest.mark.proves("`on_epoch_end` or `__len__` raises")
def test_defect_02_is_absent_an_exception_in_len_comes_out_of_next(placement: Placement) -> None:
    running = placement.running(Unmeasurable(length=3, failing_from=1))
    stream = running.get()
    assert take(stream, 3) == passes(3, 1)
    with pytest.raises(CustomError, match="no length") as caught:
        next(stream)
    assert caught.value.args == (1, "no length")
    assert not running.is_running()


@pytest.mark.proves("`on_epoch_end` or `__len__` raises")
def test_defect_02_is_absent_an_exception_in_the_first_len_comes_out_of_start(placement: Placement) -> None:
    made = placement.enqueuer(Unmeasurable(length=3))
    with pytest.raises(CustomError, match="no length") as caught:
        placement.start(made)
    assert caught.value.args == (0, "no length")
    assert not made.is_running()


@pytest.mark.proves("the Sequence is empty")
def test_defect_03_is_absent_an_empty_sequence_is_a_value_error(placement: Placement) -> None:
    made = placement.enqueuer(Journaled(length=0))
    with pytest.raises(ValueError, match=r"(?i)empty|no batch"):
        placement.start(made)
    assert not made.is_running()


def test_defect_03_is_absent_when_the_sequence_becomes_empty_later(placement: Placement) -> None:
    stream = placement.running(Growing(length=2, step=-2)).get()
    assert take(stream, 2) == passes(2, 1)
    with pytest.raises(ValueError, match=r"(?i)empty|no batch"):
        next(stream)


def test_defect_04_is_absent_workers_0_does_not_hang(live_placement: Placement) -> None:
    made = live_placement.enqueuer(Journaled(length=3))
    made.start(workers=0)
    assert take(made.get(), 7) == [*passes(3, 2), (2, 0)]


def test_defect_06_is_absent_an_exception_that_does_not_unpickle_arrives(separate_placement: Placement) -> None:
    running = separate_placement.running(Failing(kind="OneWayError"))
    with pytest.raises(OneWayError) as caught:
        take(running.get(), 8)
    assert caught.value.args == ("oneway",)


def test_defect_07_is_absent_system_exit_neither_hangs_nor_ends_the_worker_in_silence(placement: Placement) -> None:
    running = placement.running(Failing(kind="SystemExit"))
    with pytest.raises(SequenceError, match="SystemExit"):
        take(running.get(), 8)
    assert not running.is_running()


def test_defect_08_is_absent_queue_empty_is_an_ordinary_error(placement: Placement) -> None:
    running = placement.running(Failing(kind="queue.Empty"))
    with pytest.raises(queue.Empty):
        take(running.get(), 8)


def test_defect_09_is_absent_a_second_start_is_refused_and_the_first_run_unharmed(placement: Placement) -> None:
    running = placement.running(Journaled(length=4))
    stream = running.get()
    taken = take(stream, 2)
    with pytest.raises(RuntimeError):
        placement.start(running, workers=1)
    assert running.is_running()
    assert taken + take(stream, 8) == [*passes(4, 2), (2, 0), (2, 1)]


def test_defect_10_is_absent_stop_before_start_is_harmless(placement: Placement) -> None:
    made = placement.enqueuer(Journaled(length=2))
    made.stop()
    made.close()
    made.stop(timeout=1)
    placement.start(made)
    assert take(made.get(), 2) == passes(2, 1)


def test_defect_11_is_absent_locks_held_in_the_trainer_do_not_deadlock_workers(processes: Placement) -> None:
    holding, released = threading.Event(), threading.Event()

    def hold() -> None:
        with HELD_LOCK:
            holding.set()
            released.wait(30)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        try:
            assert holding.wait(10)
            assert take(processes.running(Locking(length=4)).get(), 8) == passes(4, 2)
        finally:
            released.set()


def test_defect_13_is_absent_a_consumer_blocked_on_a_slow_batch_is_released_by_stop(
    placement: Placement, journal: Journal, gate: Gate
) -> None:
    running = placement.running(Gated(length=4, journal=journal.path, gate=gate.path, first_held=1, last_held=1))
    taken: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        consumer = pool.submit(lambda: taken.extend(running.get()))
        wait_until(lambda: taken and 1 in journal.requested(), what="the slow call")
        running.stop(timeout=0.3)
        consumer.result(5)
        gate.open()
    assert taken == passes(1, 1)


@pytest.mark.parametrize("timeout", [None, 1.0])
def test_defect_15_is_absent_stop_may_be_called_in_on_epoch_end(
    placement: Placement, hook: Hook, timeout: float | None
) -> None:
    outcome: list[float] = []

    def stop(_: Any) -> None:
        began = time.monotonic()
        made.stop(timeout)
        outcome.append(time.monotonic() - began)

    made = placement.enqueuer(Hooked(length=3, hook=hook(stop)))
    placement.start(made)
    assert list(made.get()) == passes(3, 1)
    wait_until(lambda: outcome, what="the return of stop()")
    assert outcome[0] < 5
    made.stop()
    placement.start(made)
    assert next(made.get())[1] == 0


def test_defect_16_is_absent_batches_pending_at_stop_are_never_computed(
    placement: Placement, journal: Journal, gate: Gate
) -> None:
    running = placement.running(Gated(length=20, journal=journal.path, gate=gate.path), 2, max_queue_size=15)
    wait_until(lambda: len(journal.requested()) == 2, what="two calls")
    running.stop(timeout=0.3)
    gate.open()
    assert settled(lambda: len(journal.requested())) == 2
    placement.start(running, max_queue_size=5)
    assert [index for _, index in take(running.get(), 19)] == list(range(19))
    wait_until(lambda: set(journal.requested()[2:]) == set(range(20)), what="the last of the new pass")
    # A batch that moved to an idle worker process may have been begun by both.
    assert placement.separate or [journal.requested().count(index) for index in range(2, 20)] == [1] * 18


def test_defect_17_is_absent_a_slow_consumer_at_the_epochs_end_causes_no_second_end_and_no_wasted_epoch(
    placement: Placement, journal: Journal
) -> None:
    stream = placement.running(Journaled(length=3, journal=journal.path)).get()
    # Callbacks may change what threads share with them, so its next epoch is computed once it is wanted.
    ahead = 3 if placement.separate else 0

    def ends_and_requests() -> tuple[int, int]:
        return len(journal.epoch_ends()), len(journal.distinct_requests())

    def pause_after(epoch: int) -> None:
        """Pause like the caller's own callbacks; only the next epoch's prefetch may happen meanwhile."""
        expected = (epoch + 1, 3 * epoch + 3 + ahead)
        wait_until(lambda: ends_and_requests() == expected, what="the epoch's end, and prefetch of the next one")
        assert settled(ends_and_requests) == expected

    for epoch in range(3):
        assert take(stream, 3) == passes(3, 1, first=epoch)
        pause_after(epoch)


def test_defect_18_is_absent_an_epochs_end_costs_no_dead_time_and_no_new_workers(
    placement: Placement, journal: Journal
) -> None:
    stream = placement.running(Journaled(length=2, journal=journal.path)).get()
    ends = []
    for _ in range(31):
        take(stream, 2)
        ends.append(time.monotonic())
    # The originals need 0.1 s for each epoch; a busy machine makes many slow, but not all.
    assert min(end - begin for begin, end in itertools.pairwise(ends)) < 0.1
    assert len({item.pid for item in journal.entries("item")}) <= 2


def test_defect_19_is_absent_a_call_that_ends_after_stop_raises_nothing(
    threads: Placement, journal: Journal, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    before = set(threading.enumerate())
    running = threads.running(Gated(length=4, journal=journal.path, gate=gate.path))
    wait_until(lambda: len(journal.requested()) == 2, what="two calls")
    running.stop(timeout=0.1)
    del running
    gate.open()
    threads.stop_all()
    gc.collect()
    wait_until(lambda: set(threading.enumerate()) <= before, what="the end of all threads")
    assert len(journal.entries("done")) == 2
    assert failed == []


def test_defect_20_is_absent_the_first_of_several_failures_is_raised_and_none_is_stale(
    placement: Placement, journal: Journal
) -> None:
    running = placement.running(Failing(length=6, journal=journal.path, bad=(2, 3, 4)), workers=2)
    wait_until(lambda: 4 in journal.requested(), what="all three failures")
    for _ in range(2):
        with pytest.raises(ValueError, match="bad") as caught:
            take(running.get(), 6)
        assert caught.value.args == ("bad", 2)
        placement.start(running)
    assert [index for _, index in take(running.get(), 2)] == [0, 1]


def test_defect_21_is_absent_none_in_the_last_place_does_not_hold_the_epoch(
    placement: Placement, journal: Journal
) -> None:
    running = placement.running(Nones(length=4, every=2, journal=journal.path))
    assert take(running.get(), 5) == [(0, 0), (0, 2), (1, 0), (1, 2), (2, 0)]
    assert [end.version for end in journal.epoch_ends()] == [1, 2]


def test_defect_22_is_absent_no_worker_begins_an_epoch_before_its_state_is_ready(
    placement: Placement, journal: Journal
) -> None:
    take(placement.running(Journaled(length=3, journal=journal.path), workers=3).get(), 18)
    began = {end.version: end.at for end in journal.epoch_ends()}
    items = [item for item in journal.entries("item") if item.version > 0]
    assert len(items) >= 15
    assert all(item.at > began[item.version] for item in items)


def test_defect_23_is_absent_steps_that_do_not_fit_the_epoch_never_run_dry(placement: Placement) -> None:
    stream = placement.running(Journaled(length=7)).get()
    taken = []
    for _ in range(30):
        taken += take(stream, 5)
    assert taken == passes(7, 22)[:150]


def test_stop_at_any_moment_of_a_short_run_ends_in_time(threads: Placement) -> None:
    """Look for races of stop(): each run is stopped a little later than the one before."""
    for count in range(20):
        made = SequenceEnqueuer(Journaled(length=5))
        made.start(2, 3)
        with ThreadPoolExecutor(1) as pool:
            consumer = pool.submit(list, made.get())
            take(made.get(), count)
            made.stop()
            assert isinstance(consumer.result(10), list)
