"""The life of an enqueuer: constructed, started, stopped, started again."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.journal import Gate, Journal
from tests.support.placement import Placement, passes, take
from tests.support.sequences import Gated, Journaled
from tests.support.waiting import settled, wait_until


def test_get_before_start_ends_at_once(placement: Placement) -> None:
    assert list(placement.enqueuer(Journaled()).get()) == []


def test_an_epoch_while_not_running_is_an_error(placement: Placement) -> None:
    made = placement.enqueuer(Journaled())
    with pytest.raises(RuntimeError, match=r"start\(\) was not called yet; call start\(\) first"):
        made.epoch()
    placement.start(made)
    next(made.epoch())
    made.stop()
    with pytest.raises(RuntimeError, match=r"stop\(\) was called; call start\(\) first"):
        made.epoch()


def test_prefetch_begins_at_start_without_get(placement: Placement, journal: Journal) -> None:
    placement.running(Journaled(length=20, journal=journal.path), max_queue_size=5)
    wait_until(lambda: len(journal.requested()) >= 5, what="prefetch")


def test_start_does_not_wait_for_a_batch(placement: Placement, gate: Gate) -> None:
    running = placement.running(Gated(gate=gate.path))
    assert running.is_running()
    gate.open()
    assert next(running.get()) == (0, 0)


def test_a_generator_made_before_start_works_after_it(placement: Placement) -> None:
    made = placement.enqueuer(Journaled(length=3))
    stream = made.get()
    placement.start(made)
    assert take(stream, 5) == [*passes(3, 1), (1, 0), (1, 1)]


def test_a_second_generator_continues_where_the_first_stopped(placement: Placement) -> None:
    running = placement.running(Journaled(length=5))
    first, second = running.get(), running.get()
    taken = take(first, 3) + take(second, 4) + take(first, 3)
    assert taken == passes(5, 2)


def test_closing_a_generator_changes_nothing(placement: Placement) -> None:
    running = placement.running(Journaled(length=5))
    first = running.get()
    taken = take(first, 2)
    first.close()
    assert running.is_running()
    taken += take(running.get(), 1)  # this generator is dropped at once
    assert taken + take(running.get(), 7) == passes(5, 2)


def test_two_threads_pull_from_their_own_generators_without_loss(placement: Placement) -> None:
    running = placement.running(Journaled(length=7), workers=2)
    with ThreadPoolExecutor(2) as pool:
        shares = list(pool.map(lambda _: take(running.get(), 21), range(2)))
    assert sorted(shares[0] + shares[1]) == passes(7, 6)
    assert all(share == sorted(share) for share in shares)


def test_two_threads_pull_from_one_iterator_without_loss(threads: Placement) -> None:
    stream = iter(threads.running(Journaled(length=7)))
    with ThreadPoolExecutor(2) as pool:
        shares = list(pool.map(lambda _: [next(stream) for _ in range(21)], range(2)))
    assert sorted(shares[0] + shares[1]) == passes(7, 6)


def test_stop_ends_live_generators_and_new_ones_are_empty(placement: Placement) -> None:
    running = placement.running(Journaled())
    stream = running.get()
    take(stream, 2)
    running.stop()
    assert not running.is_running()
    assert list(stream) == []
    assert list(running.get()) == []


def test_stop_works_while_the_queue_is_full_and_no_consumer_takes(placement: Placement, journal: Journal) -> None:
    running = placement.running(Journaled(length=50, journal=journal.path), max_queue_size=3)
    wait_until(lambda: len(journal.requested()) >= 3, what="a full queue")
    began = time.monotonic()
    running.stop()
    assert time.monotonic() - began < 5
    assert not running.is_running()


def test_stop_comes_back_while_workers_are_in_a_slow_call(placement: Placement, journal: Journal, gate: Gate) -> None:
    running = placement.running(Gated(journal=journal.path, gate=gate.path), workers=2)
    wait_until(lambda: len(journal.requested()) >= 2, what="two calls")
    began = time.monotonic()
    running.stop(timeout=0.3)
    assert time.monotonic() - began < 5
    assert not running.is_running()


def test_stop_twice_is_harmless(placement: Placement) -> None:
    running = placement.running(Journaled())
    next(running.get())
    running.stop()
    running.stop()
    assert not running.is_running()


def test_several_threads_may_stop_at_once(placement: Placement) -> None:
    running = placement.running(Journaled())
    next(running.get())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: running.stop(), range(4)))
    assert not running.is_running()


def test_stop_from_inside_the_loop_ends_the_loop(placement: Placement) -> None:
    running = placement.running(Journaled())
    taken = []
    for batch in running.get():
        taken.append(batch)
        if len(taken) == 3:
            running.stop()
    assert taken == passes(3, 1)


def test_stop_after_the_generator_was_abandoned(placement: Placement) -> None:
    running = placement.running(Journaled())
    stream = running.get()
    next(stream)
    del stream
    running.stop()
    assert not running.is_running()


def test_a_restart_begins_a_new_pass_with_other_sizes(placement: Placement) -> None:
    running = placement.running(Journaled(length=8), workers=1, max_queue_size=8)
    assert [index for _, index in take(running.get(), 5)] == [0, 1, 2, 3, 4]
    running.stop()
    placement.start(running, workers=3, max_queue_size=2)
    assert [index for _, index in take(running.get(), 11)] == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2]


def test_a_restart_reads_the_length_again(live_placement: Placement) -> None:
    sequence = Journaled(length=3)
    running = live_placement.running(sequence)
    take(running.get(), 2)
    running.stop()
    sequence.length = 5
    live_placement.start(running)
    assert take(running.get(), 6) == [*passes(5, 1), (1, 0)]


def test_a_pass_broken_off_has_no_epoch_end(placement: Placement, journal: Journal) -> None:
    running = placement.running(Journaled(length=4, journal=journal.path))
    take(running.get(), 3)
    running.stop()
    placement.start(running)
    take(running.get(), 3)
    assert settled(lambda: len(journal.epoch_ends())) == 0
    next(running.get())
    wait_until(lambda: len(journal.epoch_ends()) == 1, what="the end of the whole pass")


def test_taking_all_and_stopping_at_once_ends_the_epoch_at_most_once(placement: Placement, journal: Journal) -> None:
    running = placement.running(Journaled(length=4, journal=journal.path))
    assert take(running.get(), 4) == passes(4, 1)
    running.stop()
    assert settled(lambda: len(journal.epoch_ends())) <= 1


def test_everything_works_from_a_thread_that_is_not_the_main_one(placement: Placement) -> None:
    def life() -> list[Any]:
        made = placement.enqueuer(Journaled(length=3))
        placement.start(made)
        taken = take(made.get(), 7)
        made.stop()
        placement.start(made)
        again = [index for _, index in take(made.get(), 3)]
        made.stop()
        return [taken, again]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(life).result() == [[*passes(3, 2), (2, 0)], [0, 1, 2]]
