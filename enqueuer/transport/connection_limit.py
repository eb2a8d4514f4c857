"""Closes connections before a flood of them takes all of the trainer's file descriptors.

libzmq accepts every connection until `accept` fails for want of descriptors, then retries without a pause, at the cost
of a processor; meanwhile the trainer's own `open` fails, too. So the connections that have sent least are closed
before that. A worker's connection has a handshake behind it, and heartbeats or batches since; one that is closed by
mistake reconnects by itself. (Connections cannot be sorted by age: the kernel numbers sockets by processor, and libzmq
accepts them in threads of its own.)
"""

from __future__ import annotations

import errno
import logging
import math
import os
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enqueuer.host import reserved_files

logger = logging.getLogger(__name__)

# While connections are being closed, how often that is said.
_TELL_SECONDS = 10.0
# A look at these takes 1 ms.
_LOW_FILES = 4_096
_OPEN_FILES = Path("/proc/self/fd")
# tcpi_bytes_received of struct tcp_info (linux/tcp.h), since Linux 4.1.
_RECEIVED_BYTES = struct.Struct("=128xQ")


class ConnectionLimit:
    """Closes the quietest connections to the given TCP ports once this process's open files come near their limit.

    Call `look` as often as you like, and `close` at the end.
    """

    def __init__(self, ports: set[int]) -> None:
        self._ports = ports
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A low limit is reached within moments, and a look at few files is cheap.
        self._interval = 0.05 if 0 <= soft <= _LOW_FILES else 0.5
        self._look_at = self._tell_at = -math.inf
        self._untold_count = 0
        # A descriptor of our own that can become another name of theirs, also when not one more can be had; and what
        # it stands for between.
        self._nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._own = os.dup(self._nothing)

    def close(self) -> None:
        os.close(self._own)
        os.close(self._nothing)

    def look(self, now: float) -> None:
        """`enforce` where it is time to, and say so now and then."""
        if now < self._look_at:
            return
        self._look_at = now + self._interval
        self._untold_count += self.enforce()
        if self._untold_count and now >= self._tell_at:
            self._tell_at = now + _TELL_SECONDS
            logger.warning(
                "closed %d connections: this process has hardly any file descriptors left (ulimit -n)",
                self._untold_count,
            )
            self._untold_count = 0

    def enforce(self) -> int:
        """How many were closed. Does nothing where there is no /proc."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY:
            return 0
        descriptors = _open_descriptors(limit)
        excess = len(descriptors) - (limit - reserved_files(limit))
        if excess <= 0:
            return 0
        theirs = [descriptor for descriptor in descriptors if _is_to(descriptor, self._ports)]
        return sum(map(self._hang_up, sorted(theirs, key=_received_bytes)[:excess]))

    def _hang_up(self, descriptor: int) -> bool:
        """libzmq, whose descriptor it is, reads its end and closes it.

        Its threads may do that at any moment, and the number be another file's: so what it stands for now gets our
        number too, which nobody else closes, and that one is looked at and shut down.
        """
        try:
            os.dup2(descriptor, self._own, inheritable=False)
        except OSError:
            return False  # it was closed meanwhile
        try:
            return _is_to(self._own, self._ports) and _shut_down(self._own)
        finally:
            os.dup2(self._nothing, self._own, inheritable=False)


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


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """Somebody else's descriptor as a socket, which is not closed after. Raises OSError if it is none."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def _is_to(descriptor: int, ports: set[int]) -> bool:
    try:
        with _borrowed(descriptor) as connection:
            if connection.family not in (socket.AF_INET, socket.AF_INET6) or connection.type != socket.SOCK_STREAM:
                return False
            connection.getpeername()  # raises for a listening socket
            return connection.getsockname()[1] in ports
    except OSError:
        return False


def _shut_down(descriptor: int) -> bool:
    try:
        with _borrowed(descriptor) as connection:
            connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return False  # its other end was faster
    return True


def _received_bytes(descriptor: int) -> int:
    """What came over a connection so far; -1 if it is none by now."""
    try:
        with _borrowed(descriptor) as connection:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED_BYTES.size)
            return int(_RECEIVED_BYTES.unpack(info)[0])
    except (OSError, struct.error):
        return -1
