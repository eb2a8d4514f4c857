"""The random numbers of ``__getitem__``. Keras repeats itself here; the contract is the library's own."""

from __future__ import annotations

import random

import numpy as np

from enqueuer import SequenceEnqueuer
from tests.support.placement import Placement, take
from tests.support.sequences import Drawing

Draw = tuple[float, float, float]


def draws(running: SequenceEnqueuer, count: int = 12) -> list[Draw]:
    taken: list[Draw] = take(running.get(), count)
    running.stop()
    return taken


def test_a_seed_makes_every_draw_the_same_on_any_number_of_workers(processes: Placement) -> None:
    runs = [draws(processes.running(Drawing(length=6), workers=workers, seed=9)) for workers in (1, 3)]
    assert runs[0] == runs[1]
    assert runs[0] != draws(processes.running(Drawing(length=6), workers=1, seed=10))


def test_a_remote_worker_draws_what_local_processes_draw(remote: Placement, processes: Placement) -> None:
    here = draws(processes.running(Drawing(length=6), seed=9))
    there = draws(remote.running(Drawing(length=6), seed=9))
    assert there == here


def test_the_items_own_generator_is_the_same_in_every_placement(placement: Placement, processes: Placement) -> None:
    here = [own for _, _, own in draws(placement.running(Drawing(length=6), seed=9))]
    there = [own for _, _, own in draws(processes.running(Drawing(length=6), workers=1, seed=9))]
    assert here == there


def test_a_batch_computed_again_is_the_same(processes: Placement) -> None:
    running = processes.running(Drawing(length=6), seed=9)
    first = take(running.get(), 4)
    running.stop()
    running.start(1, 3, epoch=0)
    again = take(running.get(), 4)
    assert first == again


def test_defect_12_is_absent_no_two_draws_are_alike_though_the_trainer_seeded_its_own(placement: Placement) -> None:
    random.seed(3)
    np.random.seed(3)
    taken = draws(placement.running(Drawing(length=12), workers=3), 36)
    for source in range(3):
        assert len({draw[source] for draw in taken}) == 36


def test_without_a_seed_two_runs_differ(separate_placement: Placement) -> None:
    first, second = (draws(separate_placement.running(Drawing(length=3)), 3) for _ in range(2))
    assert not set(first) & set(second)


def test_seeding_random_before_start_fixes_the_draws_too(processes: Placement) -> None:
    def seeded() -> list[Draw]:
        made = processes.enqueuer(Drawing(length=3))
        random.seed(7)
        processes.start(made, workers=1)
        return draws(made, 6)

    assert seeded() == seeded()


def test_threads_leave_the_trainers_globals_alone(threads: Placement) -> None:
    random.seed(3)
    np.random.seed(3)
    running = threads.running(Drawing(length=6), workers=1, seed=9, max_queue_size=100)
    drawn = draws(running, 6)
    expected, expected_numpy = random.Random(3), np.random.RandomState(3)
    assert [draw[0] for draw in drawn] == [expected.random() for _ in range(6)]
    assert [draw[1] for draw in drawn] == expected_numpy.random_sample(6).tolist()
