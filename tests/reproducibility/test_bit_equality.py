"""With a seed the stream is the same, bit for bit, on any number of workers of any kind and under any faults."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer import SequenceEnqueuer, SequenceSpec
from enqueuer.monitoring.stats import Stats
from tests.support.drawing import Draws
from tests.support.remote import RemoteWorker, free_address

LENGTH = 60
EPOCHS = 2
SEED = 20260101
KILLS = 6

Batch = tuple[int, bytes, bytes]


def stream(enqueuer: SequenceEnqueuer, workers: int, between: Any = None) -> list[Batch]:
    """Two epochs as bytes. ``between(batch number)`` is called after each batch."""
    enqueuer.start(workers, 10)
    batches: list[Batch] = []
    for number, (index, own, drawn) in zip(range(EPOCHS * LENGTH), enqueuer.get(), strict=False):
        batches.append((int(index), np.asarray(own).tobytes(), np.asarray(drawn).tobytes()))
        if between is not None:
            between(number)
    return batches


def expected(global_generators: bool = True) -> list[Batch]:
    """The stream of one worker process without faults; of a sequence without global generators, of the caller's own
    thread.
    """
    sequence = Draws(LENGTH, 0.0, global_generators)
    with SequenceEnqueuer(sequence, global_generators, shuffle=True, seed=SEED) as enqueuer:
        return stream(enqueuer, 1 if global_generators else 0)


@pytest.fixture(scope="module")
def reference() -> list[Batch]:
    batches = expected()
    assert sorted(index for index, _, _ in batches[:LENGTH]) == list(range(LENGTH))
    assert [index for index, _, _ in batches[:LENGTH]] != [index for index, _, _ in batches[LENGTH:]]
    assert len({own for _, own, _ in batches}) == EPOCHS * LENGTH, "no two items are alike, in no epoch"
    return batches


@pytest.mark.parametrize("workers", [2, 7])
def test_any_number_of_processes_gives_the_same_bits(reference: list[Batch], workers: int) -> None:
    with SequenceEnqueuer(Draws(LENGTH), True, shuffle=True, seed=SEED) as enqueuer:
        assert stream(enqueuer, workers) == reference


@pytest.mark.parametrize("workers", [0, 1, 2, 7])
def test_any_number_of_threads_gives_the_same_bits_from_the_items_own_generator(workers: int) -> None:
    with SequenceEnqueuer(Draws(LENGTH, 0.0, False), shuffle=True, seed=SEED) as enqueuer:
        assert stream(enqueuer, workers) == expected(global_generators=False)


def test_the_items_own_generator_gives_threads_what_it_gives_processes(reference: list[Batch]) -> None:
    assert [batch[:2] for batch in expected(global_generators=False)] == [batch[:2] for batch in reference]


@pytest.mark.parametrize("workers", [1, 7])
def test_any_number_of_remote_workers_gives_the_same_bits(reference: list[Batch], workers: int, tmp_path: Path) -> None:
    spec = SequenceSpec("tests.support.drawing:Draws", length=LENGTH)
    address = free_address()
    with (
        RemoteWorker(address, tmp_path / "worker.log", processes=workers),
        SequenceEnqueuer(spec, shuffle=True, seed=SEED, bind=address, min_workers=workers) as enqueuer,
    ):
        assert stream(enqueuer, 0) == reference


@pytest.mark.parametrize("workers", [2, 7])
def test_kills_change_no_bit(reference: list[Batch], workers: int) -> None:
    victims = iter(range(workers * KILLS))

    def kill(number: int) -> None:
        if number % (EPOCHS * LENGTH // KILLS) == 5:
            alive = enqueuer.stats().workers
            if len(alive) > 1:
                os.kill(alive[next(victims) % len(alive)].pid, signal.SIGKILL)

    with SequenceEnqueuer(Draws(LENGTH, 0.01), True, shuffle=True, seed=SEED) as enqueuer:
        assert stream(enqueuer, workers, kill) == reference
        assert enqueuer.stats().lost_workers_count > 0


def test_hedges_change_no_bit(reference: list[Batch]) -> None:
    stopped: list[int] = []

    def stop_one(number: int) -> None:
        if number == LENGTH // 2:
            stopped.append(enqueuer.stats().workers[0].pid)
            os.kill(stopped[0], signal.SIGSTOP)

    with SequenceEnqueuer(Draws(LENGTH, 0.005), True, shuffle=True, seed=SEED, hedge=1.0) as enqueuer:
        assert stream(enqueuer, 3, stop_one) == reference
        stats: Stats = enqueuer.stats()
        os.kill(stopped[0], signal.SIGCONT)
    assert stats.hedges_count > 0
    assert stats.lost_workers_count == 0, "the hedge has been faster than the liveness"
