"""A script's classes and functions can be pickled again inside a worker: for pools of its own, and by name."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from tests.support.scripts import run_script

POOLED = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from enqueuer import SequenceEnqueuer

class Pair:
    class Half:
        def __init__(self, value):
            self.value = value
    def __init__(self, value):
        self.halves = [self.Half(value), self.Half(-value)]

def helper(value):
    return 2 * value

def double(value):
    return Pair(helper(value))

@lru_cache
def memoised(value):
    return 10 * value

def main(value):
    return value

class Pooled:
    # No pool is started a second time, so that none runs when the enqueuer stops.
    def __init__(self):
        self.known = {}
    def __len__(self):
        return LENGTH
    def __getitem__(self, index):
        if index not in self.known:
            self.known[index] = compute(index)
        return self.known[index]

def compute(index):
    with ProcessPoolExecutor(1, multiprocessing.get_context(METHOD)) as pool:
        pairs = list(pool.map(double, [index, index + 1]))
        names = list(pool.map(main, [index]))
        memo = list(pool.map(memoised, [index]))
    assert all(isinstance(pair, Pair) for pair in pairs)
    return [[half.value for half in pair.halves] for pair in pairs], names, memo

if __name__ == "__main__":
    with SequenceEnqueuer(Pooled(), True) as enq:
        enq.start(1)
        stream = enq.get()
        print([next(stream) for _ in range(2 * LENGTH)])
"""


@pytest.mark.parametrize("method", [name for name in multiprocessing.get_all_start_methods() if name != "forkserver"])
def test_a_pool_in_getitem_over_the_scripts_functions_works(tmp_path: Path, method: str) -> None:
    batches = [([[0, 0], [2, -2]], [0], [0]), ([[2, -2], [4, -4]], [1], [10])]
    length = 2 if method == "fork" else 1
    source = POOLED.replace("METHOD", repr(method)).replace("LENGTH", str(length))
    assert run_script(source, tmp_path, timeout=60) == f"{batches[:length] * 2}\n"


PICKLED = """
import pickle
from enqueuer import SequenceEnqueuer

class Item:
    def __init__(self, index):
        self.index = index

def outer():
    class Local:
        pass
    return Local()

class Pickling:
    def __len__(self):
        return 1
    def __getitem__(self, index):
        try:
            pickle.dumps(outer())
        except (AttributeError, pickle.PicklingError):
            pass
        return pickle.loads(pickle.dumps(Item(7))).index

with SequenceEnqueuer(Pickling(), True) as enq:
    enq.start(1)
    print(next(enq.get()))
"""


def test_a_scripts_class_can_be_pickled_by_name_in_a_worker(tmp_path: Path) -> None:
    assert run_script(PICKLED, tmp_path) == "7\n"
