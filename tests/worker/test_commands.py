"""Commands as JSON lines from the parent process."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from enqueuer_worker.commands import CommandReader


@pytest.fixture
def pipe() -> Iterator[tuple[CommandReader, int]]:
    reading, writing = os.pipe()
    yield CommandReader(reading), writing
    os.close(reading)


def test_lines_after_the_first_are_left_for_the_poller(pipe: tuple[CommandReader, int]) -> None:
    commands, writing = pipe
    os.write(writing, b'{"a": 1}\n{"b": 2}\n{"c"')
    assert commands.first_line() == b'{"a": 1}\n'
    assert select.select([commands.fd], [], [], 0)[0]
    assert commands.read() == [{"b": 2}]
    os.write(writing, b": 3}\n")
    assert commands.read() == [{"c": 3}] and not commands.ended
    os.close(writing)
    assert commands.read() == [] and commands.ended


def test_a_parent_that_ends_before_its_first_line_is_an_error(pipe: tuple[CommandReader, int]) -> None:
    commands, writing = pipe
    os.write(writing, b"half a li")
    os.close(writing)
    with pytest.raises(EOFError):
        commands.first_line()
