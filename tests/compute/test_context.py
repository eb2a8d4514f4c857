import os
import threading

import pytest

from enqueuer.compute.context import WorkerInfo, begin_item, end_item, enter_epoch, enter_worker, item_rng, worker_info
from enqueuer.compute.seeding import item_generator


def in_a_thread(function):
    """The result of a function that runs in a new thread, which is in no worker and no item yet."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_item_rng_outside_an_item_is_an_error_that_says_where_to_call_it():
    with pytest.raises(RuntimeError, match="__getitem__"):
        item_rng()


def test_an_item_has_one_generator_with_its_own_numbers():
    outer = begin_item(7, 3, 11)
    try:
        generator = item_rng()
        assert item_rng() is generator
        assert generator.random(5).tolist() == item_generator(7, 3, 11).random(5).tolist()
    finally:
        end_item(outer)
    with pytest.raises(RuntimeError):
        item_rng()


def test_items_nest():
    outer = begin_item(1, 1, 1)
    generator = item_rng()
    inner = begin_item(1, 1, 2)
    assert item_rng() is not generator
    end_item(inner)
    assert item_rng() is generator
    end_item(outer)


def test_worker_info_is_none_in_the_trainers_own_thread_even_within_an_item():
    outer = begin_item(1, 1, 1)
    try:
        assert worker_info() is None
    finally:
        end_item(outer)


def test_worker_info_names_the_worker_in_its_thread_and_in_no_other():
    def work():
        enter_worker("host/1", 1, "host")
        enter_epoch(seed=5, epoch=2)
        before = worker_info()
        outer = begin_item(5, 3, 0)
        during = worker_info()
        end_item(outer)
        return before, during

    before, during = in_a_thread(work)
    assert before == WorkerInfo(worker_id="host/1", number=1, host="host", pid=os.getpid(), epoch=2, seed=5)
    assert during.epoch == 3
    assert worker_info() is None


def test_worker_info_cannot_be_changed():
    def work():
        enter_worker("w", 0, "h")
        return worker_info()

    with pytest.raises(AttributeError):
        in_a_thread(work).number = 3
