"""How many files this process may open, and what gives way before there are none left for the user's own.

A trainer needs some for each worker's connections and one for each slab of shared memory (the worker two); of those
there are the more, the more batches differ in size, and 128 workers' come to a thousand. So the limit is raised, and
the last descriptors are no slab's, here and in the worker.

libzmq has no bound on connections: it accepts whoever comes until `accept` fails for want of descriptors, then tries
again without a pause, at the cost of a processor; and the trainer's own `open` fails meanwhile. So connections are
closed before it comes to that: those that have said least. A worker's have a handshake behind them, and heartbeats or
batches since; and one that is closed by mistake comes back by itself. (Their ages cannot be told: the kernel numbers
sockets by processor, and libzmq accepts them in threads of its own.)
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
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)

# What a fleet needs at most; select() in somebody's code cannot take descriptors from 1024 on, but only large fleets,
# and batches of many sizes on many workers, come to that.
_WANTED_FILES = 65_536
# With fewer, a handful of remote workers, two connections each, would be all.
_LEAST_FILES = 128
# Of the descriptors, what is left to the user's own files, a quarter and at most so many.
_MOST_RESERVED = 1_024
# While connections are being closed, how often that is said.
_TELL_SECONDS = 10.0
# A look at these takes 1 ms.
_LOW_FILES = 4_096
_OPEN_FILES = Path("/proc/self/fd")
# tcpi_bytes_received of struct tcp_info (linux/tcp.h), since Linux 4.1.
_RECEIVED_BYTES = struct.Struct("=128xQ")


def raise_file_limit(*, for_remote: bool = False) -> int:
    """Raise this process's soft limit as far as it may; returns what it is then.

    Raises OSError where that is too low for any fleet of remote workers, if it is ``for_remote``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS has a lower one of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if for_remote and soft != resource.RLIM_INFINITY and soft < _LEAST_FILES:
        raise OSError(
            f"this process may open {soft} files, too few for remote workers, each of which takes two connections; "
            f"raise the limit (ulimit -n {_LEAST_FILES} or more)"
        )
    return _WANTED_FILES if soft == resource.RLIM_INFINITY else soft


def is_among_last(descriptor: int) -> bool:
    """Whether this one, the lowest that was free, is of those that are left to connections and the user's own files.

    Twice what `ConnectionLimit` leaves: slabs stay, and would have connections give way to them.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and descriptor >= limit - 2 * _reserved(limit)


def _reserved(limit: int) -> int:
    return min(limit // 4, _MOST_RESERVED)


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
        excess = len(descriptors) - (limit - _reserved(limit))
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
