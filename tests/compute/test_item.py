import random

import numpy as np
import pytest

from enqueuer.compute.context import item_rng
from enqueuer.compute.item import compute_item
from enqueuer.compute.seeding import seeded_globals


class Recorder:
    """Returns the index and a draw from each generator."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return type(index), index, random.random(), float(np.random.random()), float(item_rng().random())


class Failing:
    def __init__(self, error):
        self.error = error

    def __getitem__(self, index):
        raise self.error


def test_the_index_arrives_as_a_plain_int():
    assert compute_item(Recorder(), np.int64(3), seed=1, epoch=0, seed_globals=False)[:2] == (int, 3)


def test_with_seeded_globals_an_item_depends_on_seed_epoch_and_index_alone():
    with seeded_globals(0, 0):
        first = compute_item(Recorder(), 3, seed=1, epoch=2, seed_globals=True)
        compute_item(Recorder(), 4, seed=1, epoch=2, seed_globals=True)
        assert compute_item(Recorder(), 3, seed=1, epoch=2, seed_globals=True) == first
        assert compute_item(Recorder(), 3, seed=1, epoch=3, seed_globals=True)[2:] != first[2:]


def test_without_seeded_globals_the_global_generators_are_left_alone_and_item_rng_is_the_same():
    with seeded_globals(0, 0):
        seeded = compute_item(Recorder(), 3, seed=1, epoch=2, seed_globals=True)
    with seeded_globals(0, 0):
        expected = random.random()
    with seeded_globals(0, 0):
        plain = compute_item(Recorder(), 3, seed=1, epoch=2, seed_globals=False)
    assert plain[2] == expected
    assert plain[4] == seeded[4]


def test_stop_iteration_becomes_a_runtime_error_that_keeps_its_cause():
    error = StopIteration("end")
    with pytest.raises(RuntimeError, match=r"sequence\[5\] raised StopIteration") as caught:
        compute_item(Failing(error), 5, seed=1, epoch=0, seed_globals=False)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [IndexError("x"), StopAsyncIteration(), KeyboardInterrupt(), SystemExit(3)])
def test_every_other_exception_is_passed_on_unchanged(error):
    with pytest.raises(type(error)) as caught:
        compute_item(Failing(error), 0, seed=1, epoch=0, seed_globals=False)
    assert caught.value is error


def test_an_error_ends_the_item():
    with pytest.raises(KeyError):
        compute_item(Failing(KeyError()), 0, seed=1, epoch=0, seed_globals=False)
    with pytest.raises(RuntimeError):
        item_rng()
