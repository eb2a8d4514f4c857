"""The temporary directory or /dev/shm is full: the library works without it, or start() says so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.remote import REPOSITORY, environment

# Mounts a file system of 64 kB on $2, uses up its blocks or its inodes ($1), then runs the rest.
_FILL = """
kind=$1 where=$2; shift 2
mount -t tmpfs -o size=64k,nr_inodes=64 tmpfs "$where" || exit 99
if [ "$kind" = blocks ]; then cat /dev/zero > "$where/full" 2> /dev/null
else for name in $(seq 64); do touch "$where/$name" 2> /dev/null; done; fi
exec "$@"
"""


def why_no_mounts() -> str | None:
    """The reason why this process cannot mount file systems of its own; None if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    if shutil.which("unshare") is None:
        return "needs unshare (util-linux)"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "needs mount namespaces"
    return None


@pytest.fixture(autouse=True)
def _mounts() -> None:
    reason = why_no_mounts()
    if reason is not None:
        # CI sets this: there, a skipped test is a failed one.
        if os.environ.get("REQUIRE_NAMESPACES") and os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)


def run_trainer(
    kind: str, full: str | Path, *arguments: str, tmpdir: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the trainer program with two local workers while that directory is full."""
    variables = environment() | ({"TMPDIR": tmpdir} if tmpdir else {})
    program = [sys.executable, "-m", "tests.chaos.trainer_program", "--local", "2", "--length", "50", *arguments]
    command = ["unshare", "--mount", "sh", "-c", _FILL, "sh", kind, str(full), *program]
    return subprocess.run(
        command, cwd=REPOSITORY, env=variables, capture_output=True, text=True, timeout=60, check=False
    )


def assert_exact(ended: subprocess.CompletedProcess[str]) -> None:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1])["faults"] == {}


@pytest.mark.proves("the disk or `/dev/shm` is full")
@pytest.mark.parametrize("kind", ["blocks", "inodes"])
def test_a_full_directory_for_temporary_files_is_avoided(tmp_path: Path, kind: str) -> None:
    assert_exact(run_trainer(kind, tmp_path, tmpdir=str(tmp_path)))


def test_sockets_need_no_blocks_where_the_directory_has_filled_up_since_it_was_chosen(tmp_path: Path) -> None:
    assert_exact(run_trainer("blocks", tmp_path, "--tempdir", str(tmp_path)))


@pytest.mark.proves("the disk or `/dev/shm` is full")
def test_start_says_that_there_is_no_room_for_sockets_and_nothing_is_left(tmp_path: Path) -> None:
    ended = run_trainer("inodes", tmp_path, "--tempdir", str(tmp_path))
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert ended.stdout.startswith(f"error OSError: [Errno 28] No space left on device: '{tmp_path}/enqueuer-")
    assert ended.stderr == ""


@pytest.mark.proves("the disk or `/dev/shm` is full")
@pytest.mark.parametrize("kind", ["blocks", "inodes"])
def test_a_full_shared_memory_file_system_is_not_needed(kind: str) -> None:
    """The data of a live Sequence goes to the workers in anonymous memory, outside of any file system."""
    assert_exact(run_trainer(kind, "/dev/shm", "--live-bytes", str(32 << 20)))
