"""JSON lines from the parent process, over a private copy of stdin."""

from __future__ import annotations

import json
import os
from typing import Any

from enqueuer.errors import ProtocolError

_CHUNK = 64 * 1024


def take_stdin() -> int:
    """A private descriptor for what stdin was; user code that reads stdin finds it empty, not our commands."""
    private = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return private


class CommandReader:
    """Splits what a descriptor has to say into lines."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.ended = False
        self._buffer = b""

    def first_line(self) -> bytes:
        """Wait for one line. Raises EOFError when the parent has gone without one."""
        # Byte by byte: a command behind it must stay in the pipe, where a poller sees it.
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self.fd, 1)
            if not byte:
                raise EOFError("the parent process closed stdin before it said what to do")
            line += byte
        return line

    def read(self) -> list[dict[str, Any]]:
        """The commands that have arrived, once the descriptor is readable; `ended` says whether more can come."""
        chunk = os.read(self.fd, _CHUNK)
        self.ended = not chunk
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        return [parse_command(line) for line in lines]


def parse_command(line: bytes) -> dict[str, Any]:
    """A JSON object in one line. Raises `ProtocolError`, and nothing else."""
    try:
        command = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a command is no JSON: {type(error).__name__}") from None
    if type(command) is not dict:
        raise ProtocolError("a command is a JSON object")
    return command
