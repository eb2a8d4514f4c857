"""Tests inside one framework: each in an interpreter of its own, since two of them in one process get in each other's
way, and each is started once for all the tests of a file.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.leaks import Resources, resources
from tests.support.remote import REPOSITORY, environment
from tests.support.scripts import run_python
from tests.support.waiting import wait_until

# They announce themselves on standard error; thread pools of two cores are enough.
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
# What frameworks deprecate of one another is none of our business; any other warning is an error, as everywhere.
_WARNINGS = ("-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning")
_SECONDS = 580.0


def require_frameworks(*modules: str) -> None:
    """Skip the test where one is not installed; where all must be (CI), fail."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        reason = f"needs {' and '.join(missing)}: pip install 'enqueuer[adapters]'"
        if os.environ.get("REQUIRE_FRAMEWORKS"):
            pytest.fail(reason)
        pytest.skip(reason)


def run_tests_in_framework(file: Path, *modules: str, **variables: str) -> None:
    """Run the tests of a file that pytest does not collect by its name. Fails if one of them fails or is skipped."""
    require_frameworks(*modules)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5", *_WARNINGS, str(file)],
        cwd=REPOSITORY,
        env={**environment(), **_QUIET, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
    )
    print(done.stdout)
    assert done.returncode == 0, f"{file.name} failed, see its output below"
    counts = re.findall(r"(\d+) (\w+)(?:, | in )", done.stdout.splitlines()[-1])
    assert [outcome for _, outcome in counts] == ["passed"], counts


def run_program(arguments: list[str], directory: Path, **variables: str) -> str:
    """Run the interpreter with these arguments in that directory; returns what it printed. Fails if it fails."""
    return run_python(arguments, directory, _SECONDS, **{**_QUIET, **variables})


def left_behind(before: Resources) -> list[str]:
    """What is there now and was not ``before``, but for what is not ours: frameworks' native threads, which Python
    shows as dummies once they have run a callback, and what other programs have in shared memory. Waits for those that
    are about to end.
    """

    def left() -> list[str]:
        found = resources().beyond(before)
        return [what for what in found if not what.startswith(("thread Dummy", "file /dev/shm/"))]

    with contextlib.suppress(AssertionError):
        wait_until(lambda: not left(), what="nothing left")
    return left()
