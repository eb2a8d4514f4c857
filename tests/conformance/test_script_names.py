"""Worker processes do not run the script, and its functions still find in it what they look up while they run."""

from __future__ import annotations

from pathlib import Path

from tests.support.scripts import run_script

LOOKS_UP = """
from __future__ import annotations
import pickle
import sys
import threading
import typing
import numpy as np
from enqueuer import SequenceEnqueuer

LARGE, SHIFT, factor = np.zeros(1 << 20), 3, 2
guard = threading.Lock()

class Row:
    def __init__(self, number):
        self.number = number

class Unhashable(type):
    __hash__ = None

class NotSent(metaclass=Unhashable):
    pass

class Options:
    row: Row
    names: list[str]

def flip(number):
    return -number

def shift(number):
    return number + SHIFT

def train():
    with guard:
        return LARGE.sum()

class Rows:
    def __init__(self, path):
        self.path = path
    def __len__(self):
        return 3
    def __getitem__(self, index):
        with open(self.path, "rb") as file:
            row = pickle.load(file)[index]
        return (
            globals()["flip"](index),
            eval("shift(index) * np.int64(factor)"),
            getattr(sys.modules[__name__], "shift")(row.number),
            sorted(typing.get_type_hints(Options)),
        )

with open("rows.pickle", "wb") as file:
    pickle.dump([Row(number) for number in (10, 20, 30)], file)
with SequenceEnqueuer(Rows("rows.pickle"), use_multiprocessing=True) as enq:
    enq.start(1)
    for batch in enq.epoch():
        print(*batch)
"""

SETS = """
from enqueuer import SequenceEnqueuer

HANDLE, CACHE, ROUND = None, {}, 0

class Reader:
    handle = None

def set_up():
    global HANDLE
    HANDLE = Reader.handle = "opened"
    CACHE["key"] = "filled"

class Rows:
    def __len__(self):
        return 1
    def __getitem__(self, index):
        return HANDLE, Reader.handle, CACHE, ROUND
    def on_epoch_end(self):
        global ROUND
        ROUND += 1

with SequenceEnqueuer(Rows(), use_multiprocessing=True, worker_init=set_up) as enq:
    enq.start(1)
    for _ in range(2):
        print(*next(enq.epoch()))
"""

MISSES = """
import sys
from enqueuer import SequenceEnqueuer

class Rows:
    def __len__(self):
        return 1
    def __getitem__(self, index):
        return sys.modules["__main__"].counters

counters = [1, 2]
with SequenceEnqueuer(Rows(), use_multiprocessing=True) as enq:
    enq.start(1)
    try:
        next(enq.epoch())
    except AttributeError as error:
        print(error)
"""

LOCAL = """
from enqueuer import SequenceEnqueuer

def build():
    class Rows:
        class Row:
            pass
        def __len__(self):
            return 1
        def __getitem__(self, index):
            return repr(type(self)), repr(self.Row)
    return Rows()

with SequenceEnqueuer(build(), use_multiprocessing=True) as enq:
    enq.start(1)
    print(*next(enq.epoch()))
"""


def test_what_a_function_looks_up_in_its_script_is_there(tmp_path: Path) -> None:
    assert run_script(LOOKS_UP, tmp_path).splitlines() == [
        "0 6 13 ['names', 'row']",
        "-1 8 23 ['names', 'row']",
        "-2 10 33 ['names', 'row']",
    ]


def test_what_worker_init_sets_in_the_script_stays(tmp_path: Path) -> None:
    kept = "opened opened {'key': 'filled'}"
    assert run_script(SETS, tmp_path) == f"{kept} 0\n{kept} 1\n"


def test_what_is_missing_there_is_told_with_the_cure(tmp_path: Path) -> None:
    told = run_script(MISSES, tmp_path)
    assert "does not run the script" in told
    assert "to a module that the script imports" in told
    assert "'counters'" in told


def test_classes_within_functions_keep_their_names(tmp_path: Path) -> None:
    name = "__main__.build.<locals>.Rows"
    assert run_script(LOCAL, tmp_path) == f"<class '{name}'> <class '{name}.Row'>\n"


STUB = """
import pathlib
import sys
import types
from enqueuer import SequenceEnqueuer

sys.modules["heavy_of_test"] = types.SimpleNamespace(load=abs)
pathlib.Path("light_of_test.py").write_text(
    "import heavy_of_test\\n"
    "class Rows:\\n"
    "    def __len__(self): return 1\\n"
    "    def __getitem__(self, index): return heavy_of_test.load(index)\\n"
)
from light_of_test import Rows

with SequenceEnqueuer(Rows(), use_multiprocessing=True) as enq:
    enq.start(1)
    try:
        next(enq.epoch())
    except ModuleNotFoundError as error:
        print(error.name, error)
"""


def test_a_module_that_only_the_script_has_made_is_named_with_the_cure(tmp_path: Path) -> None:
    told = run_script(STUB, tmp_path)
    assert told.startswith("heavy_of_test No module named 'heavy_of_test'; ")
    assert "worker_init=" in told
