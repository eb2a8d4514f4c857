"""A fresh interpreter finds our files, and no other file gets in their way."""

from __future__ import annotations

import json
import multiprocessing.spawn
import os
import subprocess
import sys
from pathlib import Path

import pytest

import enqueuer
from enqueuer import fresh_interpreter
from enqueuer.errors import ConfigurationError
from enqueuer.fresh_interpreter import interpreter_command
from tests.support.scripts import write_broken_module

PROGRAM = """
import json, sys

def main():
    import enqueuer, enqueuer_worker, numpy, zmq, pathlib
    flags = [sys.flags.optimize, sys.warnoptions, sys.flags.dev_mode]
    print(json.dumps([enqueuer.__file__, pathlib.__file__, sys.path[0], flags]))
"""


def run(directory: Path, command: list[str] | None = None, **variables: str) -> list[object]:
    """What the program prints, started in this directory."""
    program = directory / "program"
    program.mkdir()
    (program / "fresh_program.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(program), **variables}
    command = command or interpreter_command("fresh_program")
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_it_imports_our_files(tmp_path: Path) -> None:
    ours, _, first, _ = run(tmp_path)
    assert ours == enqueuer.__file__
    assert first == str(tmp_path / "program")


@pytest.mark.parametrize("name", ["json", "pathlib", "numpy", "enqueuer", "statistics"])
def test_a_module_of_such_a_name_in_the_current_directory_is_not_imported(tmp_path: Path, name: str) -> None:
    write_broken_module(tmp_path, name)
    ours, *_ = run(tmp_path)
    assert str(tmp_path) not in str(ours)


def test_a_back_port_beside_our_packages_does_not_replace_the_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = write_broken_module(tmp_path / "site", "pathlib")
    roots = fresh_interpreter._find_roots()
    monkeypatch.setattr(fresh_interpreter, "_find_roots", lambda: [site, *roots])
    _, pathlib_file, *_ = run(tmp_path)
    assert site not in str(pathlib_file)


def test_the_flags_of_this_interpreter_are_passed_on(tmp_path: Path) -> None:
    source = (
        "import json, warnings; from enqueuer.fresh_interpreter import interpreter_command as command; "
        "print(json.dumps(command('fresh_program')))"
    )
    flags = ["-O", "-W", "error::FutureWarning", "-X", "dev"]
    made = subprocess.run(
        [sys.executable, *flags, "-c", source], capture_output=True, text=True, check=True, timeout=60
    )
    _, _, _, (optimize, warnoptions, dev_mode) = run(tmp_path, json.loads(made.stdout))
    assert (optimize, dev_mode) == (1, True)
    assert "error::FutureWarning" in warnoptions


@pytest.mark.parametrize("executable", [None, "", b""])
def test_without_an_interpreter_the_error_says_what_to_do(executable: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", executable)
    with pytest.raises(ConfigurationError, match=r"no Python interpreter.*multiprocessing\.set_executable"):
        interpreter_command("fresh_program")


def test_an_interpreter_that_was_set_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = tmp_path / "other-python"
    link.symlink_to(sys.executable)
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(link))
    assert interpreter_command("fresh_program")[0] == str(link)
    (tmp_path / "folder").mkdir()
    for name in ("missing", "folder"):
        monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(tmp_path / name))
        with pytest.raises(ConfigurationError, match=rf"'.*{name}', is no program that can be run"):
            interpreter_command("fresh_program")
