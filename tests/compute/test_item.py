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
    assert compute_item(Recorder(), np.int64(3), seed=1, epoch=0)[:2] == (int, 3)


def test_the_global_generators_are_left_alone_and_item_rng_has_the_items_seeds():
    with seeded_globals(0, 0):
        expected = random.random()
    with seeded_globals(0, 0):
        plain = compute_item(Recorder(), 3, seed=1, epoch=2)
    assert plain[2] == expected
    assert plain[4] == compute_item(Recorder(), 3, seed=1, epoch=2)[4]
    assert plain[4] != compute_item(Recorder(), 3, seed=1, epoch=2, rng_seeds=(1, 2, 4))[4]


def test_stop_iteration_becomes_a_runtime_error_that_keeps_its_cause():
    error = StopIteration("end")
    with pytest.raises(RuntimeError, match=r"sequence\[5\] raised StopIteration") as caught:
        compute_item(Failing(error), 5, seed=1, epoch=0)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [IndexError("x"), StopAsyncIteration(), KeyboardInterrupt(), SystemExit(3)])
def test_every_other_exception_is_passed_on_unchanged(error):
    with pytest.raises(type(error)) as caught:
        compute_item(Failing(error), 0, seed=1, epoch=0)
    assert caught.value is error


def test_an_error_ends_the_item():
    with pytest.raises(KeyError):
        compute_item(Failing(KeyError()), 0, seed=1, epoch=0)
    with pytest.raises(RuntimeError):
        item_rng()
