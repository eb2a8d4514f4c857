"""Health sockets: the working loop of a trainer or worker answers health checks on a Unix socket.

    `enqueuer health` ──connect──► DIR/<random>.health ──► the process's loop ──► its status as JSON

An answer proves that the loop turns; a hanging loop does not answer, even if its process looks alive. A process opens
a socket only if it is given a directory, so a program started by hand leaves no file behind. Images and service files
set ENQUEUER_RUNTIME_DIR for this.
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

from enqueuer.transport.unix_listener import listen_at

logger = logging.getLogger("enqueuer")

DIRECTORY_VARIABLE = "ENQUEUER_RUNTIME_DIR"
_SUFFIX = ".health"
# Less than a socket buffer holds: sending never waits.
_MOST_BYTES = 4096

# JSON values: "role", "pid", and the facts of the role.
Status = dict[str, Any]


def open_health_socket(directory: str | None) -> HealthSocket | None:
    """Open a socket in ``directory``, the value of ENQUEUER_RUNTIME_DIR.

    Returns None without a directory and, with a warning, if the socket cannot be made there.
    """
    if not directory:
        return None
    try:
        return HealthSocket(Path(directory))
    except OSError as error:
        logger.warning("`enqueuer health` cannot ask this process: %s", error)
        return None


class HealthSocket:
    """The socket of one loop. The loop's thread polls it, and calls `answer` when it is readable.

    Raises OSError if it cannot be made, and PermissionError if other users may enter the directory.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(directory)
        # A random name: the file of a killed process must not be taken for that of another process.
        self._path = directory / f"{os.urandom(8).hex()}{_SUFFIX}"
        self._owner = os.getpid()
        self._listener = listen_at(self._path)

    def fileno(self) -> int:
        return self._listener.fileno()

    def answer(self, status: Callable[[], Status]) -> None:
        """Send the status to all connected callers; never waits."""
        with contextlib.suppress(OSError):  # no caller is left, or one left before its answer
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
    """Raise PermissionError unless the directory belongs to this user and no other user may enter it.

    Raises NotADirectoryError for a file.
    """
    status = directory.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{directory} is not a directory: give one that belongs to this user alone")
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(f"{directory} must belong to this user alone: chmod 700 {directory}")


def ask_all(directory: Path, timeout: float) -> list[Status | None]:
    """The status of each process with a socket in ``directory``; None if it did not answer within ``timeout`` seconds.

    Removes the files of killed processes. Raises OSError if the directory cannot be read or is not private.
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
            # BlockingIOError means a full backlog: the loop has not answered for long, which counts as a time-out.
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
