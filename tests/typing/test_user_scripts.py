"""Type checkers see every option of a user's script: the right ones pass, each wrong name or type is found.

The script lies outside of the repository, and an installed library, an editable one too, is found without a path.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RIGHT, WRONG = HERE / "user_script.py", HERE / "wrong_script.py"


def mypy(script: Path) -> set[int]:
    """Lines with an error."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", str(script)]
    return {int(line) for line in re.findall(rf"{script.name}:(\d+): error:", run(command, script.parent))}


def pyright(script: Path) -> set[int]:
    """Lines with an error."""
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", str(script)]
    report = json.loads(run(command, script.parent))
    assert report["summary"]["filesAnalyzed"] == 1
    diagnostics = report["generalDiagnostics"]
    return {found["range"]["start"]["line"] + 1 for found in diagnostics if found["severity"] == "error"}


def run(command: list[str], directory: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("MYPYPATH", "PYTHONPATH")}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def marked(script: Path) -> set[int]:
    lines = script.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}


@pytest.fixture(params=[mypy, pyright], ids=["mypy", "pyright"])
def check(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], set[int]]:
    if find_spec(request.param.__name__) is None:
        if os.environ.get("REQUIRE_CHECKERS"):
            pytest.fail(f"{request.param.__name__} is not installed")
        pytest.skip(f"{request.param.__name__} is not installed (dependency group lint)")
    checker: Callable[[Path], set[int]] = request.param
    return lambda script: checker(Path(shutil.copy(script, tmp_path)))


def test_a_right_script_passes(check: Callable[[Path], set[int]]) -> None:
    assert check(RIGHT) == set()


def test_each_wrong_name_or_type_is_found_and_nothing_else(check: Callable[[Path], set[int]]) -> None:
    assert len(marked(WRONG)) >= 14
    assert check(WRONG) == marked(WRONG)
