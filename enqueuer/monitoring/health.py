"""Whether a running trainer or worker is well: the loop that does its work answers on a Unix socket, or does not.

There is a socket only where ENQUEUER_RUNTIME_DIR names a directory for it: images and service files set it, a program
that is started by hand leaves no such file. A loop that hangs does not answer, whatever its process looks like from
outside; nothing is written while nobody asks.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

logger = logging.getLogger("enqueuer")

DIRECTORY_VARIABLE = "ENQUEUER_RUNTIME_DIR"
_SUFFIX = ".health"
# Below what a socket holds, so that sending never waits.
_MOST_BYTES = 4096

# Plain values: "role", "pid", and what that role has to say.
Status = dict[str, Any]


def open_health_socket() -> HealthSocket | None:
    """A socket in the environment's directory; None where none is named, or, with a warning, where it cannot be."""
    directory = os.environ.get(DIRECTORY_VARIABLE)
    if not directory:
        return None
    try:
        return HealthSocket(Path(directory))
    except OSError as error:
        logger.warning("`enqueuer health` cannot ask this process: %s", error)
        return None


class HealthSocket:
    """Used by the one thread whose loop it vouches for, which calls `answer` when the object is readable.

    Raises OSError where it cannot be made: the directory has to be its user's alone.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(directory)
        # Never the same name twice: what a killed process leaves must not be taken for another's.
        self._path = directory / f"{os.urandom(8).hex()}{_SUFFIX}"
        self._owner = os.getpid()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.setblocking(False)
            self._listener.bind(str(self._path))
            self._listener.listen()
        except BaseException:
            self._listener.close()
            raise

    def fileno(self) -> int:
        return self._listener.fileno()

    def answer(self, status: Callable[[], Status]) -> None:
        """Tell all who have asked; never waits."""
        with contextlib.suppress(OSError):  # nobody is left, or one has gone before the answer
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    connection.setblocking(False)
                    connection.send(json.dumps({"pid": os.getpid(), **status()}).encode()[:_MOST_BYTES])

    def close(self) -> None:
        self._listener.close()
        if os.getpid() == self._owner:
            self._path.unlink(missing_ok=True)


def check_private(directory: Path) -> None:
    """Raise PermissionError unless the directory is this user's and nobody else may enter it."""
    status = directory.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(f"{directory} must be this user's alone: chmod 700")


def ask_all(directory: Path, timeout: float) -> list[Status | None]:
    """What each process that lives and works here says; None for one that did not answer within ``timeout`` seconds.

    Removes what killed ones have left. Raises OSError where the directory cannot be read or is not private.
    """
    check_private(directory)
    answers = []
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        try:
            answers.append(_ask(path, timeout))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
    return answers


def _ask(path: Path, timeout: float) -> Status | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        asker.settimeout(timeout)
        try:
            # A full backlog is the sign of a loop that has not answered for long: BlockingIOError, like a time-out.
            asker.connect(str(path))
            answer = json.loads(_read(asker))
        except (TimeoutError, BlockingIOError, ConnectionResetError, ValueError):
            return None
    return answer if isinstance(answer, dict) else None


def _read(asker: socket.socket) -> bytes:
    read = b""
    while part := asker.recv(_MOST_BYTES):
        read += part
    return read
