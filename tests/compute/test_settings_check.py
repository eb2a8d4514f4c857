"""Plain values that a script has changed in modules of the user's are found; what differs by its nature is not."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from enqueuer.compute.library_settings import NAMES
from enqueuer.compute.settings_check import changed_by, find_unlike, read_settings
from tests.support.scripts import run_script

HERE = __name__


def elsewhere(*_: object) -> int:
    return 0


class Elsewhere:
    pass


MODULE = """
import collections, configparser, dataclasses, enum, functools, os, time, types, uuid
import numpy as np
import {other}
from math import floor as PURE
from pathlib import Path

GAIN = 1
NAMES = ["a", "b"]
CONFIG = {{"gain": 1, "deep": {{"rate": 0.5, "on": True}}, "none": object()}}
OPTIONS = types.SimpleNamespace(size=(224, 224), root=Path("/data"))
MODE = enum.Enum("MODE", "TRAIN TEST").TRAIN
READER = len
_private = 1
STARTED = time.time()
RUN = uuid.uuid4().hex
PID = os.getpid()
CACHE = {{}}
TABLE = None
CALLS = 0

@dataclasses.dataclass
class Settings:
    rate: float = 0.1

SETTINGS = Settings()

@dataclasses.dataclass(slots=True)
class Slotted:
    rate: float = 0.1

class WithSlots:
    __slots__ = ("rate",)
    def __init__(self):
        self.rate = 0.1

class AttributeDict(dict):
    __getattr__ = dict.__getitem__

class Memo(dict):
    def keep(self, key):
        self[key] = key

class Settled:
    class Deep:
        rate = 0.1

SLOTTED, WITH_SLOTS, MEMO = Slotted(), WithSlots(), Memo()
ATTRIBUTES = AttributeDict(deep=AttributeDict(rate=0.1))
ROW = collections.namedtuple("ROW", "rate size")(0.1, 3)
LAYERS = collections.ChainMap({{}}, {{"rate": 0.1}})
LAST = collections.deque([1, 2])
INI = configparser.ConfigParser()
INI.read_dict({{"data": {{"rate": "0.1", "root": "%(home)s/data"}}}})
MEAN = np.zeros(3)
LARGE = np.zeros(30)
STAGES = []
LOADER = functools.partial(len)

class Level:
    def __init__(self):
        self.value = 1

class Stage:
    def __init__(self):
        self.level, self.runs, self.last, self.rows = Level(), 0, None, [1]
    def set_level(self, level):
        self.level = level
    def run(self):
        self.runs += 1
        self.last = self.runs * 2
        self.rows.append(3)
    def scale(self, value):
        return value

STAGE = Stage()

class Rows:
    def __init__(self, start):
        self.start = start
    def __getitem__(self, index):
        return self.start

ROWS = Rows(0)

def set_gain(value):
    global GAIN
    GAIN = value

def table():
    global TABLE
    if TABLE is None:
        TABLE = [1, 2]
    return TABLE

class Source:
    size = 224
    made = 0
    def __init__(self):
        type(self).made += 1
    def __len__(self):
        return 1
    def __getitem__(self, index):
        global CALLS
        CALLS += 1
        CACHE[index] = index
        return {other}.SCALE * GAIN
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], tuple[ModuleType, ModuleType]]]:
    """Imports a module with a Sequence, and one that it imports, afresh: as the trainer, then as a worker."""
    names = "settings_of_test", "scales_of_test"
    (tmp_path / f"{names[0]}.py").write_text(MODULE.format(other=names[1]))
    (tmp_path / f"{names[1]}.py").write_text("SCALE = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def fresh() -> tuple[ModuleType, ModuleType]:
        for name in names:
            sys.modules.pop(name, None)
        module = importlib.import_module(names[0])
        return module, sys.modules[names[1]]

    yield fresh
    for name in names:
        sys.modules.pop(name, None)


def told(modules: Callable[[], tuple[ModuleType, ModuleType]], change: Callable[[Any, Any], object]) -> dict[str, str]:
    """What a worker finds after the trainer has changed something: the trainer's values by the variable's name."""
    module, other = modules()
    source = module.Source()
    change(module, other)
    settings = read_settings(source, {})
    modules()
    unlike = find_unlike({name: digest for name, (digest, _) in settings.items()})
    return {name.partition(":")[2]: f"{settings[name][1]}/{text}" for name, text in unlike}


def test_nothing_changed_is_nothing_told(modules: Any) -> None:
    assert told(modules, lambda module, other: None) == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda module, _: setattr(module, "GAIN", 10), {"GAIN": "10/1"}),
        (lambda module, _: module.set_gain(10), {"GAIN": "10/1"}),
        (lambda module, _: module.NAMES.append("c"), {"NAMES": "['a', 'b', 'c']/['a', 'b']"}),
        (lambda module, _: module.CONFIG.update(gain=2), {"CONFIG['gain']": "2/1"}),
        (lambda module, _: module.CONFIG["deep"].update(on=False), {"CONFIG['deep']['on']": "False/True"}),
        (lambda module, _: module.CONFIG.update(new=1), {"CONFIG['new']": "1/not set"}),
        (lambda module, _: setattr(module.OPTIONS, "size", (32, 32)), {"OPTIONS.size": "(32, 32)/(224, 224)"}),
        (lambda module, _: setattr(module.OPTIONS, "root", Path("/x")), {"OPTIONS.root": "'/x'/'/data'"}),
        (lambda module, _: setattr(module.SETTINGS, "rate", 0.2), {"SETTINGS.rate": "0.2/0.1"}),
        (lambda module, _: setattr(module.SLOTTED, "rate", 0.2), {"SLOTTED.rate": "0.2/0.1"}),
        (lambda module, _: setattr(module.WITH_SLOTS, "rate", 0.2), {"WITH_SLOTS.rate": "0.2/0.1"}),
        (lambda module, _: module.ATTRIBUTES.deep.update(rate=0.2), {"ATTRIBUTES['deep']['rate']": "0.2/0.1"}),
        (lambda module, _: setattr(module, "ROW", module.ROW._replace(rate=0.2)), {"ROW.rate": "0.2/0.1"}),
        (lambda module, _: module.LAYERS.update(rate=0.2), {"LAYERS['rate']": "0.2/0.1"}),
        (lambda module, _: module.LAST.append(3), {"LAST": "[1, 2, 3]/[1, 2]"}),
        (lambda module, _: module.INI.set("data", "rate", "0.2"), {"INI['data']['rate']": "'0.2'/'0.1'"}),
        (lambda module, _: setattr(module.Settled.Deep, "rate", 0.2), {"Settled.Deep.rate": "0.2/0.1"}),
        (lambda module, _: setattr(module.Source, "size", 32), {"Source.size": "32/224"}),
        (lambda module, _: setattr(module.Source, "flag", True), {"Source.flag": "True/not set"}),
        (lambda module, _: setattr(module, "ADDED", "x"), {"ADDED": "'x'/not set"}),
        (lambda _, other: setattr(other, "SCALE", 4), {"SCALE": "4/3"}),
        (lambda module, _: setattr(module, "READER", print), {"READER": "builtins.print/builtins.len"}),
        (lambda module, _: setattr(module, "table", elsewhere), {"table": f"{HERE}.elsewhere/{{}}.table"}),
        (lambda module, _: setattr(module, "table", math.sqrt), {"table": "math.sqrt/{}.table"}),
        (lambda module, _: setattr(module, "Stage", Elsewhere), {"Stage": f"{HERE}.Elsewhere/{{}}.Stage"}),
        (
            lambda module, _: setattr(module.Stage, "scale", elsewhere),
            {"Stage.scale": f"{HERE}.elsewhere/{{}}.Stage.scale"},
        ),
        (
            lambda module, _: setattr(module.Source, "__getitem__", elsewhere),
            {"Source.__getitem__": f"{HERE}.elsewhere/{{}}.Source.__getitem__"},
        ),
        (lambda module, _: setattr(module.STAGE.level, "value", 9), {"STAGE.level.value": "9/1"}),
        (lambda module, _: module.STAGE.set_level(3), {"STAGE.level": "3/not set"}),
        (lambda module, _: module.STAGES.append(elsewhere), {"STAGES": f"[{HERE}.elsewhere]/[]"}),
        (
            lambda module, _: setattr(module, "LOADER", partial(len, 3)),
            {"LOADER": "partial(builtins.len, 3, {})/partial(builtins.len, {})"},
        ),
        (
            lambda module, _: module.MEAN.fill(2),
            {"MEAN": "float64 array [2.0, 2.0, 2.0]/float64 array [0.0, 0.0, 0.0]"},
        ),
    ],
)
def test_a_changed_value_is_told_with_both(modules: Any, change: Any, expected: dict[str, str]) -> None:
    assert told(modules, change) == {name: text.replace("{}.", "settings_of_test.") for name, text in expected.items()}


def test_an_array_is_told_by_its_digest(modules: Any) -> None:
    found = told(modules, lambda module, _: module.LARGE.fill(2))
    here, there = found["LARGE"].split("/")
    assert here != there
    assert here.startswith("float64 array of shape (30,), digest ")


def test_a_function_that_the_user_put_into_a_library_is_told(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = modules()
    monkeypatch.setattr(np, "median", elsewhere)
    settings = read_settings(module.Source(), {})
    assert settings["numpy:median"][1] == f"{HERE}.elsewhere"
    monkeypatch.undo()
    assert find_unlike({"numpy:median": settings["numpy:median"][0]}) == (("numpy:median", "another object"),)


def test_a_function_that_a_script_put_into_a_library_is_told(tmp_path: Path) -> None:
    script = """
import numpy as np
from enqueuer.compute.settings_check import read_settings
np.median = lambda values: 0
VALUE = 3
class Source:
    def __getitem__(self, index):
        return np.median([index])
print(*(name for name in read_settings(Source(), {}) if name.startswith(("numpy:", "__main__:"))))
"""
    assert run_script(script, tmp_path).split() == ["numpy:median"]


@pytest.mark.parametrize(
    "change",
    [
        lambda module, _: module.Source()[0],
        lambda module, _: module.table(),
        lambda module, _: setattr(module, "_private", 2),
        lambda module, _: module.STAGE.run(),
        lambda module, _: setattr(module, "TABLE", module.Stage()),
        lambda module, _: setattr(module, "WRITER", module.Stage()),
        lambda module, _: setattr(module, "PURE", math.ceil),
        lambda module, _: module.ROWS.__init__(5),
        lambda module, _: module.CONFIG.update(none=object()),
        lambda module, _: module.MEMO.keep(3),
        lambda module, _: setattr(module, "ARRAY", [[0] * 100] * 100),
    ],
)
def test_counters_caches_and_values_of_a_process_are_not_told(modules: Any, change: Any) -> None:
    found = told(modules, change)
    assert set(found) <= {"ARRAY"}


def test_what_a_wrapper_or_a_function_of_the_users_holds_is_looked_into(modules: Any) -> None:
    module, _ = modules()

    class Wrapper:
        def __init__(self, inner: object) -> None:
            self.stages = [partial(inner)]  # type: ignore[arg-type]

    for inner in (module.Source, module.set_gain):
        assert "settings_of_test:GAIN" in read_settings(Wrapper(inner), {})


def test_libraries_and_scripts_are_left_out() -> None:
    class OfNumPy:
        def __init__(self) -> None:
            import numpy

            self.parts = [numpy.random.default_rng(), numpy.linalg.norm, Path("/")]

    names = {name.partition(":")[0] for name in set(read_settings(OfNumPy(), {})) - NAMES}
    assert not {name for name in names if name.startswith(("numpy", "pathlib", "enqueuer", "__main__", "pytest"))}


def test_what_worker_init_sets_is_told_apart_from_what_it_only_imports(modules: Any) -> None:
    module, _ = modules()
    names = read_settings(module.Source(), {})
    assert {"settings_of_test:GAIN", "scales_of_test:SCALE"} <= set(names)
    modules()
    del sys.modules["scales_of_test"]

    def worker_init() -> None:
        sys.modules["settings_of_test"].GAIN = 7  # type: ignore[attr-defined]
        importlib.import_module("scales_of_test").SCALE = 8  # type: ignore[attr-defined]

    assert changed_by(worker_init, names) == {"settings_of_test:GAIN"}


def test_a_module_that_the_worker_has_not_imported_is_not_compared() -> None:
    assert find_unlike({"never_imported_anywhere:GAIN": b"12345678"}) == ()


def test_an_object_that_raises_whatever_it_is_asked_hides_no_setting(
    monkeypatch: pytest.MonkeyPatch, modules: Any
) -> None:
    class Proxy:
        @property
        def __class__(self) -> type:
            raise RuntimeError("working outside of a context")

    module, _ = modules()
    module.proxy = Proxy()
    told = read_settings(module.Source(), {})
    assert "settings_of_test:MEAN" in told
    assert not any("proxy" in name for name in told)
    assert find_unlike({"settings_of_test:GAIN": b"12345678"}) in ((), (("settings_of_test:GAIN", "1"),))


def test_very_long_values_are_shown_short(modules: Any) -> None:
    found = told(modules, lambda module, _: setattr(module, "GAIN", "x" * 5000))
    assert len(found["GAIN"]) < 150
