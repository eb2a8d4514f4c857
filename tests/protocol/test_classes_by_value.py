"""Classes of a script that go to workers and come back in batches and errors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.scripts import run_script

COMES_BACK = """
import dataclasses, enum
from itertools import islice
from enqueuer import SequenceEnqueuer

class Slotted:
    __slots__ = ("row", "__inner", "__weakref__")
    made = 0
    def __init__(self, row):
        type(self).made += 1
        self.row, self.__inner = row, -row
    def inner(self):
        return self.__inner

@dataclasses.dataclass
class Sample:
    row: int
    names: list = dataclasses.field(default_factory=list)

class Kind(enum.Enum):
    EVEN = 0
    ODD = 1

def local_class():
    class Refused(ValueError):
        raised = 0
        def __init__(self, row):
            type(self).raised += 1
            super().__init__(row)
    return Refused

class Rows:
    def __init__(self):
        self.refused, self.epoch = local_class(), 0
        self.slotted = Slotted(7)
    def __len__(self):
        return 3
    def __getitem__(self, index):
        if index == 2 and self.epoch == 1:
            raise self.refused(index)
        return Slotted(index), [Sample(index), Kind(index % 2)] * 40, hasattr(self.slotted, "__dict__"), self.epoch
    def on_epoch_end(self):
        self.epoch += 1

rows = Rows()
init, fields = Sample.__init__, dict(Sample.__dataclass_fields__)
for _ in range(2):
    rows.epoch = 0
    with SequenceEnqueuer(rows, True) as enq:
        enq.start(1)
        stream = enq.get()
        for index, (slotted, pairs, has_dict, epoch) in enumerate(islice(stream, 5)):
            row = index % 3
            assert type(slotted) is Slotted and (slotted.row, slotted.inner()) == (row, -row), slotted
            assert pairs[0] == Sample(row) and pairs[1] is Kind(row % 2)
            assert not has_dict and epoch == index // 3
        try:
            next(stream)
        except rows.refused as error:
            print(error, end=" ")
assert Sample.__init__ is init and dict(Sample.__dataclass_fields__) == fields
assert dataclasses.fields(Sample)[0].default is dataclasses.MISSING
print(Slotted.made, rows.refused.raised)
"""


def test_the_trainer_keeps_its_own_classes_when_instances_come_back(tmp_path: Path) -> None:
    # One Slotted is the trainer's; errors are made there without their ``__init__``.
    assert run_script(COMES_BACK, tmp_path, timeout=60) == "2 2 1 0\n"


ENUMERATIONS = """
import enum
from itertools import islice
from enqueuer import SequenceEnqueuer

class Planet(enum.Enum):
    EARTH = 5, 6
    MARS = 1, 3
    RED = 1, 3
    def __init__(self, mass, radius):
        self.mass, self.__radius = mass, radius
    @property
    def ratio(self):
        return self.mass / self.__radius

class Size(str, enum.Enum):
    def __new__(cls, value, label):
        made = str.__new__(cls, value)
        made._value_, made.label = value, label
        return made
    SMALL = "s", "little"

class Allowed(enum.Flag):
    READ, WRITE = 1, 2
    BOTH = 3

class Rows:
    def __len__(self):
        return 2
    def __getitem__(self, index):
        assert Planet.RED is Planet.MARS and Planet((5, 6)) is Planet.EARTH
        assert Allowed.BOTH == Allowed.READ | Allowed.WRITE and Allowed.BOTH.name == "BOTH"
        return Planet.RED, Planet.RED.ratio, Size("s").label, Size.SMALL.upper(), Allowed.BOTH

with SequenceEnqueuer(Rows(), True) as enq:
    enq.start(1)
    for batch in islice(enq.get(), 3):
        assert batch[0] is Planet.MARS and batch[0].ratio == batch[1] and batch[-1] is Allowed.BOTH, batch
        print(*batch[2:4])
"""


def test_members_of_an_enumeration_keep_their_attributes_and_aliases(tmp_path: Path) -> None:
    assert run_script(ENUMERATIONS, tmp_path, timeout=60) == "little S\n" * 3


MADE_BY_WORKERS = """
from itertools import islice
from enqueuer import SequenceEnqueuer

class Rows:
    def __len__(self):
        return 2
    def __getitem__(self, index):
        global Made
        if "Made" not in globals():
            class Made:
                __slots__ = ("row",)
                def twice(self):
                    return 2 * self.row
        made = Made()
        made.row = index + 1
        return made

with SequenceEnqueuer(Rows(), True) as enq:
    enq.start(1)
    made = list(islice(enq.get(), 4))
print([one.twice() for one in made], len(set(map(type, made))), hasattr(made[0], "__dict__"))
"""


def test_a_class_that_a_worker_made_comes_whole(tmp_path: Path) -> None:
    assert run_script(MADE_BY_WORKERS, tmp_path, timeout=60) == "[2, 4, 2, 4] 1 False\n"


REGISTERED = """
import ctypes
import numpy as np
from enqueuer import SequenceEnqueuer

REGISTRY = {}

class Step:
    key = None
    def __init_subclass__(cls, key, **others):
        super().__init_subclass__(**others)
        if key in REGISTRY:
            raise KeyError(f"{key} twice")
        REGISTRY[key], cls.key = cls, key

class Flip(Step, key="flip"): pass
class Crop(Step, key="crop"): pass

class Point(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("kind", ctypes.c_char), ("x", ctypes.c_int)]

class Rows:
    def __init__(self):
        self.point, self.grid = Point(b"k", 7), (ctypes.c_int * 2 * 3)()
    def __len__(self):
        return 2
    def __getitem__(self, index):
        class Late(Step, key=f"late {index}"): pass
        self.grid[2][1] = index
        record = np.rec.array([(index, 0.5)], names="a,b")[0]
        seen = sorted(REGISTRY), REGISTRY["crop"] is Crop, Crop.key
        return seen, REGISTRY["flip"](), self.point, self.grid, {"deep": [record, np.ma.masked_array([1, 2], [0, 1])]}

with SequenceEnqueuer(Rows(), True) as enq:
    enq.start(1)
    for index, (seen, flip, point, grid, parts) in enumerate(enq.epoch()):
        record, masked = parts["deep"]
        assert seen[0][:2] == ["crop", "flip"] and seen[1:] == (True, "crop"), seen
        assert type(flip) is Flip and list(REGISTRY) == ["flip", "crop"], REGISTRY
        assert type(point) is Point and (point.kind, point.x, ctypes.sizeof(point)) == (b"k", 7, 5)
        assert type(grid) is ctypes.c_int * 2 * 3 and list(grid[2]) == [0, index]
        assert type(record) is np.record and (record.a, record.b) == (index, 0.5)
        assert masked.mask.tolist() == [False, True]
class New(Step, key="new"): pass
assert list(REGISTRY) == ["flip", "crop", "new"], "the script's own classes register as before"
"""


def test_subclasses_register_once_and_structures_records_and_masks_come_back(tmp_path: Path) -> None:
    run_script(REGISTERED, tmp_path, timeout=120)


NAMED_TUPLES = """
from typing import Generic, NamedTuple, TypeVar
from enqueuer import SequenceEnqueuer

Content = TypeVar("Content")

class Point(NamedTuple):
    left: int
    right: int = 3
    def sum(self):
        return self.left + self.right

class Deeper(Point):
    __slots__ = ()
    def sum(self):
        return 10 * super().sum()

class Box(NamedTuple, Generic[Content]):
    content: Content

class Source:
    def __init__(self):
        self.point, self.deeper, self.box = Point(1), Deeper(2, 4), Box[int](5)
    def __len__(self):
        return 1
    def __getitem__(self, index):
        moved = self.point._replace(left=7)
        return self.point.sum(), self.deeper.sum(), moved.sum(), self.box.content, hasattr(moved, "__dict__"), moved

with SequenceEnqueuer(Source(), True) as enqueuer:
    enqueuer.start(1)
    *seen, moved = next(enqueuer.get())
    assert type(moved) is Point
    print(*seen)
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a generic NamedTuple needs Python 3.11")
def test_named_tuples_of_a_script_have_their_methods_and_fields(tmp_path: Path) -> None:
    assert run_script(NAMED_TUPLES, tmp_path).strip() == "4 60 10 5 False"


ASKED_FOR = """
from enqueuer import SequenceEnqueuer

class Step:
    def __call__(self, value):
        return value

class Source:
    @classmethod
    def kinds(cls):
        return sorted(kind.__name__ for kind in cls.__subclasses__())

class Rows(Source):
    def __len__(self):
        return 2
    def __getitem__(self, index):
        value = index
        for step in all_below(Step):
            value = step()(value)
        return value, self.kinds(), Source.kinds()

def all_below(base):
    return [Step, *(kind for step in Step.__subclasses__() for kind in (step, *step.__subclasses__()))]

class Double(Step):
    def __call__(self, value):
        return 2 * value

class Add(Step):
    def __call__(self, value):
        return value + 3

class AddMore(Add):
    def __call__(self, value):
        return value + 0.5

class Files(Source): pass

with SequenceEnqueuer(Rows(), True) as enq:
    enq.start(1)
    print(*enq.epoch())
"""


def test_subclasses_that_code_asks_for_are_there_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    kinds = "[], ['Files', 'Rows']"
    assert run_script(ASKED_FOR, tmp_path, timeout=60) == f"(3.5, {kinds}) (5.5, {kinds})\n"
