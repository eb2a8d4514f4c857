"""The state of the Sequence that each batch is computed from."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.journal import Journal
from tests.support.placement import Placement, passes, take
from tests.support.sequences import Adjustable, Bare, Hooked, Journaled, Mutating, Reshuffling
from tests.support.waiting import settled


def test_changes_by_on_epoch_end_are_in_force_for_every_batch_of_the_next_epoch(placement: Placement) -> None:
    assert take(placement.running(Journaled(length=5), workers=3).get(), 20) == passes(5, 4)


def test_changes_by_the_caller_are_in_force_in_the_next_epoch(live_placement: Placement) -> None:
    sequence = Adjustable(length=4)
    stream = live_placement.running(sequence, workers=2).get()
    take(stream, 3)
    sequence.factor = 10
    next(stream)
    assert take(stream, 4) == [(1, index, 10) for index in range(4)]


def test_processes_finish_an_epoch_with_the_state_it_began_with(processes: Placement) -> None:
    sequence = Adjustable(length=6)
    stream = processes.running(sequence, workers=2, max_queue_size=1).get()
    taken = [next(stream)]
    sequence.factor = 10
    taken += take(stream, 11)
    assert taken == [(0, index, 1) for index in range(6)] + [(1, index, 10) for index in range(6)]


def test_threads_see_changes_by_the_caller_at_once(threads: Placement, journal: Journal) -> None:
    sequence = Adjustable(length=20, journal=journal.path)
    running = threads.running(sequence, workers=1, max_queue_size=1)
    settled(lambda: len(journal.requested()))
    sequence.factor = 10
    assert take(running.get(), 6)[-1] == (0, 5, 10)


@pytest.mark.parametrize("prefetch_epochs", [None, True, False])
def test_an_epoch_prefetched_before_the_caller_changed_something_is_computed_again(
    processes: Placement, journal: Journal, prefetch_epochs: bool | None
) -> None:
    sequence = Bare(length=4, journal=journal.path)
    stream = processes.running(sequence, workers=2, prefetch_epochs=prefetch_epochs).get()
    assert take(stream, 4) == [(1, index) for index in range(4)]
    settled(lambda: len(journal.requested()))
    sequence.factor = 10
    assert take(stream, 4) == [(10, index) for index in range(4)]
    sequence.length = 2
    assert take(stream, 2) == [(10, 0), (10, 1)]


def test_mutations_in_process_workers_never_come_back_and_are_gone_in_the_next_epoch(processes: Placement) -> None:
    sequence = Mutating(length=4)
    stream = processes.running(sequence, workers=1).get()
    assert take(stream, 8) == [(version, index, index + 1) for version in range(2) for index in range(4)]
    assert sequence.count == 0


def test_threads_share_the_callers_object(threads: Placement) -> None:
    sequence = Mutating(length=4)
    stream = threads.running(sequence, workers=1, max_queue_size=1).get()
    assert take(stream, 8) == [(index // 4, index % 4, index + 1) for index in range(8)]
    assert sequence.count >= 8


def test_a_specs_instance_lives_as_long_as_its_worker(remote: Placement, journal: Journal) -> None:
    running = remote.running(Mutating(length=6, journal=journal.path))
    taken = take(running.get(), 24)
    assert [batch[:2] for batch in taken] == passes(6, 4)
    # Two workers at most, whose own counts went on over the epochs.
    assert max(count for _, _, count in taken) >= 12


def test_replacing_the_sequence_takes_effect_at_the_next_epoch_with_its_length(live_placement: Placement) -> None:
    running = live_placement.running(Adjustable(length=4, factor=1), workers=2)
    stream = running.get()
    take(stream, 2)
    replacement = Hooked(length=6, version=100)
    running.sequence = replacement
    assert running.sequence is replacement
    assert take(stream, 2) == [(0, 2, 1), (0, 3, 1)]
    taken = take(stream, 12)
    first = taken[0][0]
    assert first >= 100
    assert taken == passes(6, 2, first=first)


def test_samples_shuffled_with_numpys_globals_are_each_seen_once_an_epoch(placement: Placement) -> None:
    stream = placement.running(Reshuffling(length=10)).get()
    epochs = [np.concatenate(take(stream, 10)).tolist() for _ in range(4)]
    assert epochs[0] == list(range(20))
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_the_trainers_numpy_stream_goes_on_undisturbed(placement: Placement) -> None:
    np.random.seed(5)
    expected = np.random.random(3).tolist()
    np.random.seed(5)
    running = placement.running(Journaled(length=3), seed=1, shuffle=True)
    drawn = []
    for count in (2, 3, 3):  # always inside an epoch: around a spec's on_epoch_end the globals are set and restored
        take(running.get(), count)
        drawn.append(float(np.random.random()))
    assert drawn == expected
