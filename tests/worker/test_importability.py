"""Modules that a worker's owner allows are looked for at the start, without being imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from enqueuer_worker.importability import import_problem

RUNS = "raise SystemExit('imported')\n"


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    (tmp_path / "digits").mkdir()
    for name in ("digits/__init__.py", "digits/data.py", "alone.py"):
        (tmp_path / name).write_text(RUNS)
    (tmp_path / "unfinished.py").write_text("def f(:\n")
    (tmp_path / "without_init").mkdir()
    (tmp_path / "without_init" / "part.py").write_text(RUNS)
    return [str(tmp_path), *sys.path]


@pytest.mark.parametrize("module", ["digits", "digits.data", "alone", "without_init.part", "json", "os.path", "tests"])
def test_a_module_that_is_there_has_no_problem_and_does_not_run(paths: list[str], module: str) -> None:
    assert import_problem(module, paths) is None


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        ("digit", "no module 'digit' can be found"),
        ("digits.dta", "no module 'digits.dta' can be found"),
        ("nothing.at.all", "no module 'nothing' can be found"),
        ("alone.data", "alone is a module, not a package"),
        ("alone.py", "alone is a module, not a package; a module's name has no .py"),
        ("unfinished", "line 1 of"),
    ],
)
def test_a_module_that_cannot_be_imported_has_its_reason(paths: list[str], module: str, problem: str) -> None:
    assert str(import_problem(module, paths)).startswith(problem)
