"""What modules a fresh interpreter finds, and what is sent in place of the others."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from enqueuer.protocol import made_modules
from enqueuer.protocol.live_object import pack_object, unpack_object

SOURCE = "FACTOR = 4\nclass Row:\n    def __init__(self, number): self.number = number * FACTOR\n"
READS = "import pickle, sys; print(pickle.load(sys.stdin.buffer).number)"


class FinderOfThisProgram(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return importlib.machinery.ModuleSpec(name, self) if name == "found_by_test" else None

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        exec(SOURCE, vars(module))


def _of_no_file(_: Path) -> Any:
    module = types.ModuleType("made_by_test")
    sys.modules[module.__name__] = module
    exec(SOURCE, vars(module))
    return module


def _of_another_name(folder: Path) -> Any:
    return _from_file("plugin_of_test", folder / "plug-in.py")


def _within_no_package(folder: Path) -> Any:
    return _from_file("no_package_of_test.plugin", folder / "plugin.py")


def _from_file(name: str, path: Path) -> Any:
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _by_a_finder(_: Path) -> Any:
    return importlib.import_module("found_by_test")


@pytest.fixture
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, FinderOfThisProgram()])
    modules, registered = set(sys.modules), cloudpickle.list_registry_pickle_by_value()
    yield
    for name in cloudpickle.list_registry_pickle_by_value() - registered:
        cloudpickle.unregister_pickle_by_value(sys.modules[name])
    for name in set(sys.modules) - modules:
        del sys.modules[name]
        made_modules._judged.discard(name)


@pytest.mark.usefixtures("_clean")
@pytest.mark.parametrize("make", [_of_no_file, _of_another_name, _within_no_package, _by_a_finder])
def test_a_class_of_a_module_that_workers_do_not_find_travels(make: Any, tmp_path: Path) -> None:
    (stream,) = pack_object(make(tmp_path).Row(3))
    read = subprocess.run([sys.executable, "-c", READS], input=bytes(stream), capture_output=True, check=False)
    assert read.stdout == b"12\n", read.stderr


@pytest.mark.usefixtures("_clean")
def test_a_module_with_a_class_of_its_own_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "callable_of_test.py").write_text(
        "import sys, types\n"
        "class Callable(types.ModuleType):\n"
        "    def __call__(self, number): return 2 * number\n"
        "sys.modules[__name__].__class__ = Callable\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("callable_of_test")
    assert unpack_object(pack_object([module])) == [module]


@pytest.mark.usefixtures("_clean")
def test_a_module_that_workers_find_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("package_of_test", "names_of_test/inner"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "part.py").write_text(SOURCE)
    (tmp_path / "package_of_test" / "__init__.py").touch()
    (tmp_path / "single_of_test.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("single_of_test", "package_of_test.part", "names_of_test.inner.part"):
        (stream,) = pack_object(importlib.import_module(name).Row(3))
        assert name.encode() in bytes(stream)
        assert b"FACTOR" not in bytes(stream)
