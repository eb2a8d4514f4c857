"""Every block of code in the guide runs, as a reader would run it; or the page says why not."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ALL, name
from tests.support.remote import environment, free_address
from tests.support.snippets import PAGES, snippets

_SECONDS = 60.0
# Pictures, output, and files of other programs are no code of this project.
_LANGUAGES = {"python", "sh", "text", "yaml"}
# The pages whose framework programs tests/adapters runs; it checks that it knows each of them.
_FRAMEWORK_PAGES = {PAGES / "how-to" / name for name in ("keras.md", "torch.md", "torch-trainers.md")}


def is_run(page: Path) -> bool:
    return any(
        snippet.reason is None and not snippet.word and snippet.language in ("python", "sh")
        for snippet in snippets(page)
    )


@pytest.mark.parametrize("page", [page for page in ALL if is_run(page)], ids=name)
def test_the_blocks_of_a_page_run_in_order(page: Path, tmp_path: Path) -> None:
    bin_directory, directory = tmp_path / "bin", tmp_path / "reader"
    bin_directory.mkdir()
    directory.mkdir()
    write_command(bin_directory / "enqueuer", f'exec {sys.executable} -m enqueuer "$@"')
    write_command(bin_directory / "python", f'exec {sys.executable} "$@"')
    # The other machine is this directory.
    write_command(bin_directory / "scp", 'for file in "$@"; do case $file in */*) cp "$file" . ;; esac; done')
    port = free_address().rpartition(":")[2]
    variables = {
        **{key: value for key, value in environment().items() if not key.startswith("ENQUEUER_")},
        "PATH": f"{bin_directory}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.support.page_program", str(page), port],
        cwd=directory,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
    )
    print(done.stdout)
    assert done.returncode == 0, f"a block of {name(page)} failed: see the output"


def write_command(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize("page", ALL, ids=name)
def test_every_block_has_a_language_that_says_whether_it_runs(page: Path) -> None:
    wrong = [f"line {one.line}: {one.language!r}" for one in snippets(page) if one.language not in _LANGUAGES]
    assert wrong == []


@pytest.mark.parametrize("page", ALL, ids=name)
def test_a_framework_is_named_only_where_its_programs_are_run(page: Path) -> None:
    named = [snippet for snippet in snippets(page) if snippet.word and snippet.file is None]
    assert named == [] or page in _FRAMEWORK_PAGES


@pytest.mark.parametrize("page", ALL, ids=name)
def test_a_block_that_does_not_run_has_a_reason(page: Path) -> None:
    reasons = [snippet.reason for snippet in snippets(page) if snippet.reason is not None]
    assert all(len(reason.split()) >= 3 for reason in reasons), reasons
