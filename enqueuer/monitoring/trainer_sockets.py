"""The directory with the sockets of this user's trainers, which no other user may enter.

It is ``$XDG_RUNTIME_DIR/enqueuer`` or, where the session manager gives no such directory, ``/tmp/enqueuer-UID``.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from enqueuer.monitoring.health import check_private

_SUFFIX = ".trainer"
# The kernel's limit is 107 characters; the name of a socket follows the directory.
_MAX_PATH = 70


def user_directory() -> Path:
    """The path of this user's directory, which may not exist yet."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(given) and len(given) <= _MAX_PATH and Path(given).is_dir():  # noqa: PTH117 - no Path('') wanted
        return Path(given) / "enqueuer"
    return Path(f"/tmp/enqueuer-{os.geteuid()}")  # noqa: S108 - `check_private` refuses one that others can enter


def new_socket_path() -> Path:
    """A path for the socket of this trainer. Makes the directory. Raises OSError."""
    directory = user_directory()
    directory.mkdir(mode=0o700, exist_ok=True)
    check_private(directory)
    # A random name: the file of a killed process must not be taken for that of another one.
    return directory / f"{os.getpid()}-{os.urandom(4).hex()}{_SUFFIX}"


def connect_to_trainers(timeout: float) -> list[tuple[Path, socket.socket]]:
    """A connection to each trainer of this user on this machine, in the order of their process ids.

    Removes the sockets of dead trainers. Raises OSError if the directory cannot be read or is not private.
    """
    directory = user_directory()
    if not directory.exists():
        return []
    check_private(directory)
    connections = []
    for path in sorted(directory.glob(f"*{_SUFFIX}"), key=_pid_of):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            connection.close()
            with contextlib.suppress(OSError):
                path.unlink()
        except OSError:  # its backlog is full: it hangs
            connection.close()
        else:
            connections.append((path, connection))
    return connections


def _pid_of(path: Path) -> tuple[int, str]:
    pid = path.name.partition("-")[0]
    return (int(pid) if pid.isdigit() else 0), path.name
