"""The chaos fixtures: a `Chaos` that leaves nothing behind, and a table of the longest gaps."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.chaos import Chaos, left_behind, warm_up
from tests.support.chaos_cgroup import MemoryGroup, why_no_memory_group
from tests.support.leaks import resources


@pytest.fixture(scope="session")
def _warm() -> None:
    warm_up()


@pytest.fixture
def own_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory that no other program uses. Not tmp_path, which is made before this and outside of it: an
    ipc path there would be too long.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        monkeypatch.setenv("TMPDIR", directory)
        yield Path(directory)


@pytest.fixture
def chaos(_warm: None, own_tmpdir: Path, tmp_path: Path) -> Iterator[Chaos]:
    gc.collect()
    before = resources()
    made = Chaos(tmp_path)
    try:
        yield made
    finally:
        made.close()
    made.forget()
    assert left_behind(before) == []


@pytest.fixture
def record_gap() -> Callable[[str, float], None]:
    """``record_gap(row, seconds)``: the longest gap seen for a row of the guide's table of failures.

    With ``ENQUEUER_RECORD_GAPS=FILE`` the file, a JSON object, keeps the largest of each row.
    """
    target = os.environ.get("ENQUEUER_RECORD_GAPS")

    def record(row: str, seconds: float) -> None:
        if target:
            merge_gap(Path(target), row, seconds)

    return record


def merge_gap(path: Path, row: str, seconds: float) -> None:
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        gaps = json.loads(text) if text else {}
        gaps[row] = max(round(seconds, 3), gaps.get(row, 0.0))
        file.truncate(0)
        file.write(json.dumps(dict(sorted(gaps.items())), indent=2) + "\n")


@pytest.fixture
def memory_group() -> Iterator[Callable[[int], MemoryGroup]]:
    """Makes a control group with a limit in bytes."""
    reason = why_no_memory_group()
    if reason is not None:
        # CI sets this: there, a skipped test is a failed one.
        if os.environ.get("REQUIRE_NAMESPACES") and os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)
    with contextlib.ExitStack() as groups:
        yield lambda limit: groups.enter_context(MemoryGroup(limit))
