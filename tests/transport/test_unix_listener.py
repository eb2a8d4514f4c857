"""A listening Unix socket."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from enqueuer.transport.unix_listener import listen_at


def test_it_takes_connections_and_does_not_wait_for_them(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with listen_at(path) as listener:
        with pytest.raises(BlockingIOError):
            listener.accept()
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))
            connection, _ = listener.accept()
            connection.close()


def test_a_path_that_cannot_be_bound_is_an_error_and_leaves_nothing_open(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        listen_at(tmp_path / "nothing" / "socket")
    with pytest.raises(OSError, match="too long"):
        listen_at(tmp_path / ("x" * 200))
