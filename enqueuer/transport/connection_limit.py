"""Closes the quietest connections before a flood of them takes all of the trainer's file descriptors.

libzmq accepts every connection until `accept` fails for want of descriptors, then retries without a pause, which costs
a processor; meanwhile the trainer's own `open` fails, too. So the connections that have sent least are closed before
that. A worker has sent a handshake, and heartbeats or batches since; if closed by mistake, it reconnects. (Age is no
criterion: the kernel numbers sockets by processor, and libzmq accepts them in its own threads.)

A connection is closed by shutting it down: libzmq reads the end of the stream and closes its descriptor. libzmq's
threads may do so at any moment, and the number may then belong to another file. Therefore a number is never checked and
shut down under its own name, but under an alias that this module owns:

    dup2(libzmq's number, alias)    the alias names one open file, whatever becomes of the number
    check the alias, shut it down
    dup2(/dev/null, alias)          the alias keeps its own descriptor for the next time
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

# Time between two warnings while connections are being closed.
_WARN_SECONDS = 10.0
# Listing this many open files takes 1 ms.
_LOW_FILES = 4_096
_OPEN_FILES = Path("/proc/self/fd")
# tcpi_bytes_received of struct tcp_info (linux/tcp.h), since Linux 4.1.
_RECEIVED_BYTES = struct.Struct("=128xQ")


class ConnectionLimit:
    """Closes the quietest connections to the given TCP ports once this process's open files come near their limit.

    Call `look` as often as you like, and `close` at the end. For one thread.
    """

    def __init__(self, ports: set[int]) -> None:
        self._ports = ports
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A low limit is reached within moments, and listing few files is cheap.
        self._interval = 0.05 if 0 <= soft <= _LOW_FILES else 0.5
        self._look_at = self._warn_at = -math.inf
        self._unreported_count = 0
        # A spare descriptor reserved in advance: `dup2` aliases a peer's socket onto it even when no descriptor is
        # free. Otherwise it points at /dev/null.
        self._devnull = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._alias = os.dup(self._devnull)

    def close(self) -> None:
        os.close(self._alias)
        os.close(self._devnull)

    def look(self, now: float) -> None:
        """Run `enforce` if it is due, and warn of closed connections every ten seconds."""
        if now < self._look_at:
            return
        self._look_at = now + self._interval
        self._unreported_count += self.enforce()
        if self._unreported_count and now >= self._warn_at:
            self._warn_at = now + _WARN_SECONDS
            logger.warning(
                "closed %d connections: this process has hardly any file descriptors left (ulimit -n)",
                self._unreported_count,
            )
            self._unreported_count = 0

    def enforce(self) -> int:
        """Close connections down to the limit; returns their number. Does nothing on a system without /proc."""
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
        """Shut a connection down; libzmq then closes its own descriptor.

        libzmq may close and reuse the number at any time, so it is first aliased to our descriptor, and the alias is
        checked and shut down.
        """
        try:
            os.dup2(descriptor, self._alias, inheritable=False)
        except OSError:
            return False  # it was closed meanwhile
        try:
            return _is_to(self._alias, self._ports) and _shut_down(self._alias)
        finally:
            os.dup2(self._devnull, self._alias, inheritable=False)


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
    """The descriptor as a socket object; it stays open afterwards. Raises OSError if it is no socket."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def _is_to(descriptor: int, ports: set[int]) -> bool:
    """Whether the descriptor is an accepted TCP connection to one of these ports."""
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
        return False  # the peer was faster
    return True


def _received_bytes(descriptor: int) -> int:
    """Bytes received over a connection so far; -1 if the number is no longer a connection's."""
    try:
        with _borrowed(descriptor) as connection:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED_BYTES.size)
            return int(_RECEIVED_BYTES.unpack(info)[0])
    except (OSError, struct.error):
        return -1
