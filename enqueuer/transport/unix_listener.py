"""A listening Unix socket in a private directory: for the trainer's own processes, observers and health checks."""

from __future__ import annotations

import socket
from pathlib import Path


def listen_at(path: Path, backlog: int = 128) -> socket.socket:
    """A stream socket that listens at this path and never waits.

    Raises OSError if the path cannot be bound; nothing stays open then.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.bind(str(path))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener
