"""The command `enqueuer top`: in a real terminal, and what keeps it from one."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from enqueuer import SequenceEnqueuer
from enqueuer.cli.main import main
from tests.support.observed import own_directory
from tests.support.sequences import Bare

DEADLINE = 60.0
# What a terminal is told at the beginning and at the end: the other screen, no cursor, the mouse.
ENTERED, LEFT, CURSOR_SHOWN, NO_MOUSE = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1000l"


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_directory(monkeypatch) as path:
        yield path


class Terminal:
    """A program in a terminal of 24 lines."""

    def __init__(self, *arguments: str) -> None:
        self._controller, terminal = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        command = [sys.executable, "-m", "enqueuer", "top", *arguments]
        self.program = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
        os.close(terminal)
        self.output = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.program.kill()
        self.program.wait()
        os.close(self._controller)

    def press(self, key: bytes) -> None:
        os.write(self._controller, key)

    def read_until(self, text: bytes) -> None:
        """Read until the program has written this."""
        end = time.monotonic() + DEADLINE
        while text not in self.output:
            assert select.select([self._controller], [], [], max(0.0, end - time.monotonic()))[0], self.output[-2_000:]
            try:
                self.output += os.read(self._controller, 65_536)
            except OSError:  # its end
                raise AssertionError(self.output[-2_000:]) from None


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_the_trainer_is_shown_and_a_key_leaves_the_terminal_as_it_was(key: bytes) -> None:
    with SequenceEnqueuer(Bare(length=6)) as enqueuer:
        enqueuer.start(workers=2)
        next(enqueuer.get())
        with Terminal() as terminal:
            terminal.read_until(ENTERED)
            terminal.read_until(f"trainer {os.getpid()} on ".encode())
            terminal.press(key)
            for told in (LEFT, CURSOR_SHOWN, NO_MOUSE):
                terminal.read_until(told)
            assert terminal.program.wait(DEADLINE) == 0


def test_sigterm_leaves_the_terminal_as_it_was() -> None:
    with Terminal("tcp://127.0.0.1:1", "--timeout", "600") as terminal:
        terminal.read_until(b"asking for a trainer")
        terminal.program.terminate()
        for told in (LEFT, CURSOR_SHOWN, NO_MOUSE):
            terminal.read_until(told)
        assert terminal.program.wait(DEADLINE) == 128 + signal.SIGTERM


def test_it_leaves_at_once_while_nothing_answers() -> None:
    with Terminal("tcp://127.0.0.1:1", "--timeout", "600") as terminal:
        terminal.read_until(b"asking for a trainer")
        terminal.press(b"q")
        terminal.read_until(LEFT)
        assert terminal.program.wait(DEADLINE) == 0


def test_without_a_terminal_it_names_the_command_that_needs_none() -> None:
    result = CliRunner().invoke(main, ["top"])
    assert result.exit_code == 2 and "enqueuer status" in result.output and result.output.count("\n") == 1


def test_without_textual_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "textual" or name == "enqueuer.top.app"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "textual", None)
    result = CliRunner().invoke(main, ["top"])
    assert result.exit_code == 2 and "pip install 'enqueuer[top]'" in result.output


def test_an_impossible_address_and_several_trainers_are_errors_of_the_command() -> None:
    with Terminal("trainer:80") as terminal:
        terminal.read_until(b"is no address: tcp://HOST:PORT")
        assert terminal.program.wait(DEADLINE) == 2
    with SequenceEnqueuer(Bare(length=6)) as one, SequenceEnqueuer(Bare(length=6)) as other:
        one.start(workers=1)
        other.start(workers=1)
        with Terminal() as terminal:
            terminal.read_until(b"several trainers run here: give the address of one of them: unix://")
            assert terminal.program.wait(DEADLINE) == 2 and ENTERED not in terminal.output
