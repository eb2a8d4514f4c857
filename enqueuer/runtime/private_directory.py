"""A directory that only this user may enter, for the ipc sockets of one session."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

# The kernel's limit on a socket's path is 107 characters; a name follows the directory.
_MAX_PATH = 80


class PrivateDirectory:
    """Mode 0700 from the start (`mkdtemp`), with a random name: an ``ipc://`` path must never be used twice."""

    def __init__(self) -> None:
        path = tempfile.mkdtemp(prefix="enqueuer-")
        if len(path) > _MAX_PATH:
            Path(path).rmdir()
            path = tempfile.mkdtemp(prefix="enqueuer-", dir="/tmp")
        self.path = Path(path)

    def endpoint(self, name: str) -> str:
        return f"ipc://{self.path / name}"

    def remove(self) -> None:
        """With all that is in it. May be called again."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self.path)
