"""JSON lines from the parent process, over a private copy of stdin."""

from __future__ import annotations

import json
import os
from typing import Any

from enqueuer.errors import ProtocolError

_CHUNK = 64 * 1024


def take_stdin() -> int:
    """Move stdin to a private descriptor and return it; user code then reads an empty stdin, not the commands."""
    private = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return private


class CommandReader:
    """Reads JSON commands, one a line, from a descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.ended = False
        self._buffer = b""

    def first_line(self) -> bytes:
        """Wait for one line and return it. Raises EOFError if the parent ends first."""
        # Byte by byte, so a command behind it stays in the pipe, where a poller sees it.
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self.fd, 1)
            if not byte:
                raise EOFError("the parent process closed stdin before it sent a line")
            line += byte
        return line

    def read(self) -> list[dict[str, Any]]:
        """Return the commands that have arrived, once the descriptor is readable. `ended`: no more will come."""
        chunk = os.read(self.fd, _CHUNK)
        self.ended = not chunk
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        return [parse_command(line) for line in lines]


def parse_command(line: bytes) -> dict[str, Any]:
    """Parse one line with a JSON object. Raises `ProtocolError`, and nothing else."""
    try:
        command = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a command is not JSON: {type(error).__name__}") from None
    if type(command) is not dict:
        raise ProtocolError("a command is not a JSON object")
    return command
