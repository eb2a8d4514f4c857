"""The command `enqueuer dashboard`: its errors, and a life from the first look to Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from enqueuer import SequenceEnqueuer
from enqueuer.cli.main import main
from tests.support.observed import own_directory
from tests.support.sequences import Bare

TIMEOUT = 60.0


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_directory(monkeypatch) as path:
        yield path


def test_an_impossible_address_is_an_error_of_the_command() -> None:
    result = CliRunner().invoke(main, ["dashboard", "trainer:80"])
    assert result.exit_code == 2 and "is no address" in result.output


def test_several_trainers_without_an_address_are_an_error_that_names_them() -> None:
    with SequenceEnqueuer(Bare(length=6)) as one, SequenceEnqueuer(Bare(length=6)) as other:
        one.start(workers=1)
        other.start(workers=1)
        result = CliRunner().invoke(main, ["dashboard"])
    assert result.exit_code == 2 and "give the address of one of them: unix://" in result.output


@pytest.mark.parametrize("address", [None, "tcp://127.0.0.1:1"])
def test_the_command_serves_the_page_and_ends_at_once_with_ctrl_c(address: str | None) -> None:
    command = [sys.executable, "-m", "enqueuer", "dashboard", "--port", "0", *([address] if address else [])]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as program:
        try:
            assert program.stdout is not None and program.stderr is not None
            url = re.match(r"(http://127\.0\.0\.1:(\d+)/) shows the training", program.stdout.readline())
            assert url is not None, program.stderr.read()
            with urllib.request.urlopen(url[1], timeout=TIMEOUT) as page:
                assert b"Enqueuer" in page.read()
            second = CliRunner().invoke(main, ["dashboard", "--port", url[2]])
            assert second.exit_code == 1 and "the port is taken: --port gives another one" in second.output
            with urllib.request.urlopen(f"{url[1]}events", timeout=TIMEOUT) as events:
                assert events.readline() == b"event: run\n"
                program.send_signal(signal.SIGINT)
                assert program.wait(TIMEOUT) == 130
            assert program.stderr.read() == "interrupted\n"
        finally:
            program.kill()
