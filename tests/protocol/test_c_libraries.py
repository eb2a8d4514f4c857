"""Libraries and types of ctypes travel to other processes; what leads into one process's memory is refused."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import pytest

from enqueuer.errors import ConfigurationError
from enqueuer.protocol.live_object import pack_bundle, pack_object, unpack_object
from tests.support.scripts import run_script

SCRIPT = """
import ctypes
import enum
from enqueuer import SequenceEnqueuer

libc = ctypes.CDLL(None)
libc.labs.argtypes, libc.labs.restype = [ctypes.c_long], ctypes.c_long
Call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)

class Node(ctypes.Structure):
    pass

Node._fields_ = [("number", ctypes.c_int), ("next", ctypes.POINTER(Node))]
NodePointer = ctypes.POINTER(Node)

class Step(enum.Enum):
    DOUBLE = MEMBER(lambda number: 2 * number)
    def __call__(self, number):
        return self.value(number)

class Rows:
    def __len__(self):
        return 2
    def __getitem__(self, index):
        node = Node(index, NodePointer(Node(index + 7)))
        next_number = Call(lambda number: number + 1)(index)
        return libc.labs(-(2 ** 40)) + index, next_number, node.next[0].number, Step.DOUBLE(4)

with SequenceEnqueuer(Rows(), use_multiprocessing=True) as enq:
    enq.start(1)
    print(*enq.epoch())
"""


def test_a_script_calls_c_in_its_items(tmp_path: Path) -> None:
    member = "enum.member" if sys.version_info >= (3, 11) else "(lambda value: (value,))"
    source = SCRIPT.replace("MEMBER", member)
    if sys.version_info < (3, 11):
        source = source.replace("self.value(number)", "self.value[0](number)")
    assert run_script(source, tmp_path) == f"({2**40}, 1, 7, 8) ({2**40 + 1}, 2, 8, 8)\n"


def test_a_library_comes_back_with_its_attributes_and_a_type_as_the_same_one() -> None:
    library: Any = ctypes.CDLL(None, use_errno=True)
    library.purpose = "sums"
    kinds = [ctypes.POINTER(ctypes.c_int), ctypes.CFUNCTYPE(None), ctypes.CFUNCTYPE(ctypes.c_int, use_errno=True)]
    back, *kinds_back = unpack_object(pack_object([library, *kinds]))
    assert (type(back), back.purpose, back._FuncPtr._flags_) == (ctypes.CDLL, "sums", library._FuncPtr._flags_)
    assert kinds_back == kinds


@pytest.mark.parametrize("part", [ctypes.CDLL(None).abs, ctypes.pointer(ctypes.c_int(3))])
def test_what_leads_into_the_memory_of_the_trainer_is_refused_by_name(part: Any) -> None:
    class Holder:
        def __init__(self) -> None:
            self.part = part

    with pytest.raises(ConfigurationError, match=r"In the way is .*Holder\.part, "):
        pack_bundle(Holder())
