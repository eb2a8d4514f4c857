"""How many files this process may open, and connections that give way before there are none left.

libzmq has no bound on connections: it accepts whoever comes until `accept` fails for want of descriptors, then tries
again without a pause, at the cost of a processor; and the trainer's own `open` fails meanwhile. So the newest
connections are closed before it comes to that. Those of the fleet are older than a flood; and one that is closed by
mistake comes back by itself.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from contextlib import suppress
from pathlib import Path

# What a fleet needs at most; select() in somebody's code cannot take descriptors from 1024 on, but only large fleets
# come to that.
_WANTED_FILES = 65_536
# With fewer, a handful of workers, two connections each, would be all.
_LEAST_FILES = 128
# Of the descriptors, what is left to the trainer's own files, a quarter and at most so many.
_MOST_RESERVED = 1_024
# A look at these takes 1 ms.
_LOW_FILES = 4_096
_OPEN_FILES = Path("/proc/self/fd")


def raise_file_limit() -> int:
    """Raise this process's soft limit as far as it may; returns what it is then.

    Raises OSError where that is too low for any fleet.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS has a lower one of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft != resource.RLIM_INFINITY and soft < _LEAST_FILES:
        raise OSError(
            f"this process may open {soft} files, too few for remote workers, each of which takes two connections; "
            f"raise the limit (ulimit -n {_LEAST_FILES} or more)"
        )
    return _WANTED_FILES if soft == resource.RLIM_INFINITY else soft


class ConnectionLimit:
    """Closes the newest connections to the given TCP ports once this process's open files come near their limit.

    ``seconds`` is how often `enforce` wants to be called: a low limit is reached within moments, and a look at few
    files is cheap.
    """

    def __init__(self, ports: set[int]) -> None:
        self._ports = ports
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.seconds = 0.05 if 0 <= soft <= _LOW_FILES else 0.5

    def enforce(self) -> int:
        """Call it now and then; how many were closed. Does nothing where there is no /proc."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY:
            return 0
        descriptors = _open_descriptors(limit)
        excess = len(descriptors) - (limit - min(limit // 4, _MOST_RESERVED))
        if excess <= 0:
            return 0
        ours = sorted(filter(None, map(self._age_of, descriptors)), reverse=True)
        return sum(_hang_up(descriptor, self._ports) for _, descriptor in ours[:excess])

    def _age_of(self, descriptor: int) -> tuple[int, int] | None:
        """(inode, descriptor) of a connection to one of the ports: the kernel numbers sockets as they are made."""
        try:
            kind, _, inode = str((_OPEN_FILES / str(descriptor)).readlink()).partition(":")
            if kind == "socket" and _is_to(descriptor, self._ports):
                return int(inode.strip("[]")), descriptor
        except (OSError, ValueError):
            pass  # closed meanwhile
        return None


def _open_descriptors(limit: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(_OPEN_FILES)]  # noqa: PTH208
    except OSError as error:
        # Reading a directory takes a descriptor.
        return list(filter(_is_open, range(limit))) if error.errno == errno.EMFILE else []


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _is_to(descriptor: int, ports: set[int]) -> bool:
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:
        return False  # no socket
    try:
        if connection.family not in (socket.AF_INET, socket.AF_INET6) or connection.type != socket.SOCK_STREAM:
            return False
        connection.getpeername()  # raises for a listening socket
        return connection.getsockname()[1] in ports
    except OSError:
        return False
    finally:
        connection.detach()


def _hang_up(descriptor: int, ports: set[int]) -> bool:
    """libzmq, whose descriptor it is, reads its end and closes it."""
    if not _is_to(descriptor, ports):
        return False  # it was closed meanwhile, and the number is another file's
    connection = socket.socket(fileno=descriptor)
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return False
    finally:
        connection.detach()
    return True
