"""Classes of a script that go to workers and come back in batches and errors."""

from __future__ import annotations

from pathlib import Path

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
