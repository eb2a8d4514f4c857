"""Strict order, endless epochs, and what happens between two of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.journal import Gate, Journal
from tests.support.placement import Placement, passes, take
from tests.support.sequences import Bare, Delayed, Gated, Growing, Hooked, Indexed, Journaled
from tests.support.waiting import settled, wait_until

Hook = Callable[[Callable[[Any], None]], str]


def test_batches_come_in_index_order_however_long_each_takes(placement: Placement) -> None:
    running = placement.running(Delayed(length=12), workers=3)
    assert take(running.get(), 36) == passes(12, 3)


def test_a_late_first_batch_does_not_let_the_others_pass(placement: Placement, journal: Journal, gate: Gate) -> None:
    sequence = Gated(length=6, journal=journal.path, gate=gate.path, last_held=0)
    running = placement.running(sequence, workers=2)
    wait_until(lambda: len(journal.entries("done")) == 5, what="the other five")
    gate.open()
    assert take(running.get(), 6) == passes(6, 1)


def test_the_stream_is_endless(placement: Placement) -> None:
    assert take(placement.running(Journaled(length=3), workers=2).get(), 60) == passes(3, 20)


def test_a_sequence_of_one_batch_is_an_epoch_each(placement: Placement) -> None:
    assert take(placement.running(Journaled(length=1)).get(), 5) == passes(1, 5)


def test_an_index_is_a_plain_int(placement: Placement) -> None:
    running = placement.running(Indexed(length=4), seed=1)
    assert take(running.get(), 4) == [(index, "int") for index in range(4)]


def test_each_index_is_requested_once_an_epoch(placement: Placement, journal: Journal) -> None:
    running = placement.running(Journaled(length=9, journal=journal.path), workers=2, max_queue_size=4)
    take(running.get(), 27)
    running.stop()
    for version in range(3):
        requested = journal.requested(version)
        assert set(requested) == set(range(9))
        # A batch that moved to an idle worker process may have been begun by both.
        assert len(requested) == 9 or placement.separate


@pytest.mark.parametrize("max_queue_size", [0, 10])
def test_nothing_of_the_next_epoch_is_requested_before_on_epoch_end_has_returned(
    placement: Placement, journal: Journal, hook: Hook, max_queue_size: int
) -> None:
    entered, released = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        entered.set()
        released.wait(60)

    sequence = Hooked(length=4, journal=journal.path, hook=hook(hold))
    stream = placement.running(sequence, workers=1, max_queue_size=max_queue_size).get()
    assert take(stream, 4) == passes(4, 1)
    assert entered.wait(30)
    assert settled(lambda: len(journal.distinct_requests())) == 4
    released.set()
    if not placement.separate:
        next(stream)  # the caller may change what threads share with it, so its next epoch waits for this
    wait_until(lambda: len(journal.distinct_requests()) == 8, what="the next epoch")


def test_on_epoch_end_waits_until_the_last_batch_was_taken(placement: Placement, journal: Journal) -> None:
    running = placement.running(Journaled(length=4, journal=journal.path))
    stream = running.get()
    take(stream, 3)
    wait_until(lambda: len(journal.entries("done")) == 4, what="the last batch")
    assert settled(lambda: len(journal.epoch_ends())) == 0
    next(stream)
    # No further pull: the consumer may still be working on its last batch.
    wait_until(lambda: len(journal.epoch_ends()) == 1, what="the end of the epoch")
    assert settled(lambda: len(journal.epoch_ends())) == 1


def test_on_epoch_end_runs_once_an_epoch_in_the_trainers_process_off_the_main_thread(
    placement: Placement, journal: Journal
) -> None:
    running = placement.running(Journaled(length=3, journal=journal.path))
    take(running.get(), 15)
    wait_until(lambda: len(journal.epoch_ends()) >= 5, what="five ends")
    running.stop()
    ends = journal.epoch_ends()
    assert [end.version for end in ends] == [1, 2, 3, 4, 5]
    assert not any(end.in_main_thread for end in ends)


def test_on_epoch_end_runs_in_no_local_worker(processes: Placement, journal: Journal) -> None:
    running = processes.running(Journaled(length=3, journal=journal.path), workers=2)
    take(running.get(), 9)
    wait_until(lambda: len(journal.epoch_ends()) == 3, what="three ends")
    assert {end.pid for end in journal.entries("epoch_end")} == {os.getpid()}


def test_on_epoch_end_gets_the_callers_own_object(live_placement: Placement, hook: Hook) -> None:
    seen: list[Any] = []
    sequence = Hooked(length=2, hook=hook(seen.append))
    take(live_placement.running(sequence).get(), 4)
    wait_until(lambda: len(seen) == 2, what="two ends")
    assert all(each is sequence for each in seen)
    assert sequence.version == 2


def test_on_epoch_end_is_optional(placement: Placement) -> None:
    assert take(placement.running(Bare(length=2)).get(), 6) == [(1, 0), (1, 1)] * 3


def test_an_epoch_is_counted_in_batches_and_not_in_the_callers_steps(placement: Placement, journal: Journal) -> None:
    running = placement.running(Journaled(length=4, journal=journal.path))
    take(running.get(), 6)
    wait_until(lambda: len(journal.epoch_ends()) == 1, what="the end of the first epoch")
    assert settled(lambda: len(journal.epoch_ends())) == 1
    assert take(running.get(), 2) == [(1, 2), (1, 3)]


@pytest.mark.parametrize(("step", "lengths"), [(2, [3, 5, 7]), (-2, [5, 3, 1])])
def test_the_length_is_read_again_every_epoch(placement: Placement, step: int, lengths: list[int]) -> None:
    running = placement.running(Growing(length=lengths[0], step=step))
    expected = [(version, index) for version, length in enumerate(lengths) for index in range(length)]
    assert take(running.get(), sum(lengths)) == expected


def test_a_tail_shorter_than_the_number_of_workers_is_delivered(placement: Placement) -> None:
    assert take(placement.running(Delayed(length=2), workers=4).get(), 6) == passes(2, 3)


def test_unordered_delivers_each_index_once_an_epoch(placement: Placement) -> None:
    running = placement.running(Delayed(length=12), workers=3, ordered=False)
    taken = take(running.get(), 36)
    for version in range(3):
        assert sorted(taken[12 * version : 12 * version + 12]) == passes(12, 1, first=version)


def test_unordered_lets_others_pass_a_late_batch(placement: Placement, gate: Gate) -> None:
    running = placement.running(Gated(length=6, gate=gate.path, last_held=0), workers=2, ordered=False)
    stream = running.get()
    assert sorted(take(stream, 5)) == passes(6, 1)[1:]
    gate.open()
    assert next(stream) == (0, 0)
