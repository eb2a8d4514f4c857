"""The Unix socket through which a worker's slabs reach a trainer on the same host, as file descriptors.

    worker                                       trainer
                                    ◄──────────  `SlabReceiver` listens; Welcome tells its path and a secret
    `SlabSender` connects           ──────────►  accepts
    secret, owner, slab id, and fd  ──────────►  checks the secret, maps the slab (`MappedBlocks.add`)
                                    ◄──────────  slab id, taken or refused
    uses the slab, or the data socket            opens the slab's blocks
    exits: the connection ends      ──────────►  keeps the slabs until the worker has left the session, too

A worker that can connect shares a file system with the trainer, such as the ``/dev/shm`` of two containers, and runs as
the same user. The slabs have no names: nothing is left after a crash, and other users cannot open them. Without such a
socket, or when a slab is refused, batches go through the data socket.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import re
import select
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from enqueuer.host import is_among_last
from enqueuer.memory.mapped_blocks import MappedBlocks

logger = logging.getLogger(__name__)

_SECRET_BYTES = 32
_ID_BYTES = 16
_MESSAGE_BYTES = _SECRET_BYTES + 2 * _ID_BYTES
# The meeting place for processes of one host that share nothing else. Containers share it on request.
COMMON_DIRECTORY = Path("/dev/shm")  # noqa: S108 - sockets there have random names, and only their user may connect
_COMMON_NAME = re.compile(r"enqueuer-[0-9a-f]{32}")
# A trainer may answer late, while its GIL is held; the batch then goes through the data socket.
_ANSWER_SECONDS = 2.0
_TAKEN, _REFUSED = b"\1", b"\0"
_ANSWER_BYTES = _ID_BYTES + 1


def is_available() -> bool:
    """Whether this system has memfds, epoll and Unix sockets that keep messages apart."""
    return hasattr(os, "memfd_create") and hasattr(select, "epoll") and hasattr(socket, "SOCK_SEQPACKET")


def common_path(name: str | None = None) -> Path:
    """The path of a socket in the common directory, which is told to workers by its name; a new one without ``name``.

    Raises OSError for any other name: a remote trainer must not make a worker connect to another socket.
    """
    if name is None:
        name = f"enqueuer-{os.urandom(16).hex()}"
    if _COMMON_NAME.fullmatch(name) is None:
        raise OSError(f"{name!r:.80} is not the name of a socket for slabs")
    return COMMON_DIRECTORY / name


def receive_slabs(path: Path | None = None) -> SlabReceiver | None:
    """A receiver at this path, or at a new one in the common directory; None if it cannot be made."""
    if not is_available():
        return None
    try:
        if path is None:
            _remove_stale_sockets()
            path = common_path()
        return SlabReceiver(path)
    except OSError as error:
        logger.debug("batches of workers on this host come through the data socket: %s", error)
        return None


def _remove_stale_sockets() -> None:
    """Remove the sockets of killed trainers from the common directory: those without a listener."""
    with contextlib.suppress(OSError):
        for path in COMMON_DIRECTORY.iterdir():
            if _COMMON_NAME.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    _remove_if_stale(path)


def _remove_if_stale(path: Path) -> None:
    status = path.lstat()
    if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


class SlabReceiver:
    """The trainer's end: maps the slabs that workers show into ``blocks``.

    Used by one thread, which calls `handle` when ``fileno`` is readable. Raises OSError if the socket cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Told to workers over the control channel. A peer without it is no worker of this trainer.
        self.secret = os.urandom(_SECRET_BYTES)
        self.blocks = MappedBlocks()
        self._maker = os.getpid()
        self._connections: dict[int, socket.socket] = {}
        # The worker behind each connection that showed slabs; and the workers that have closed theirs.
        self._owners: dict[int, bytes] = {}
        self.hung_up: set[bytes] = set()
        self._has_warned = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Renamed once it listens: a socket with the final name and no listener belongs to a dead trainer.
        unnamed = path.with_name(f"{path.name}~")
        try:
            self._listener.setblocking(False)
            self._listener.bind(str(unnamed))
            unnamed.chmod(0o600)
            self._listener.listen()
            self._epoll = select.epoll()
            self._epoll.register(self._listener, select.EPOLLIN)
            unnamed.rename(path)
        except BaseException:
            self._listener.close()
            unnamed.unlink(missing_ok=True)
            raise

    def fileno(self) -> int:
        return self._epoll.fileno()

    def handle(self) -> None:
        """Accept connections and answer slabs, without waiting."""
        for fd, _ in self._epoll.poll(0):
            if fd == self._listener.fileno():
                self._accept()
            elif not self._receive(self._connections[fd]):
                self._epoll.unregister(fd)
                self._connections.pop(fd).close()
                if fd in self._owners:
                    self.hung_up.add(self._owners.pop(fd))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it has gone, or no descriptor is left: its worker waits in vain for once
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._connections[connection.fileno()] = connection
            self._epoll.register(connection, select.EPOLLIN)

    def _receive(self, connection: socket.socket) -> bool:
        """Receive and answer one slab; False if the connection is to be closed."""
        fds: list[int] = []
        try:
            message, fds, _, _ = socket.recv_fds(connection, _MESSAGE_BYTES + 1, 1)
            if not message:
                return False
            secret, ids = message[:_SECRET_BYTES], message[_SECRET_BYTES:]
            if len(message) != _MESSAGE_BYTES or len(fds) != 1 or not hmac.compare_digest(secret, self.secret):
                return False
            owner, slab_id = ids[:_ID_BYTES], ids[_ID_BYTES:]
            self._owners[connection.fileno()] = owner
            connection.send(slab_id + (_TAKEN if self._map(owner, slab_id, fds[0]) else _REFUSED))
            return True
        except OSError:
            return False
        finally:
            for fd in fds:
                os.close(fd)

    def _map(self, owner: bytes, slab_id: bytes, fd: int) -> bool:
        if is_among_last(fd):
            self._warn_of_descriptors()
            return False
        try:
            self.blocks.add(owner, slab_id, fd)
        except OSError:
            return False
        return True

    def _warn_of_descriptors(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "this process has few file descriptors left, and each further batch size takes one for each worker: "
                "batches of further sizes go through sockets; raise the limit (ulimit -n)"
            )

    def forget_departed(self, has_left: Callable[[bytes], bool]) -> None:
        """Drop the slabs of workers that have hung up and left the session; results of others may still arrive."""
        departed = set(filter(has_left, self.hung_up))
        if departed:
            self.hung_up -= departed
            self.blocks.forget(departed)

    def close(self) -> None:
        for connection in (*self._connections.values(), self._listener):
            connection.close()
        self._connections.clear()
        self._epoll.close()
        self.blocks.close()
        if os.getpid() == self._maker:
            self.path.unlink(missing_ok=True)


class SlabSender:
    """The worker's end. Raises OSError if the trainer's end cannot be reached: another host, or another user's."""

    def __init__(self, path: Path, secret: bytes, owner: bytes) -> None:
        self._greeting = secret + owner
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.settimeout(_ANSWER_SECONDS)
            self._socket.connect(str(path))
        except BaseException:
            self._socket.close()
            raise

    def send(self, slab_id: bytes, fd: int) -> None:
        """Show a slab; returns when the trainer has mapped it. Raises OSError if it does not."""
        socket.send_fds(self._socket, [self._greeting + slab_id], [fd])
        # A late answer to an earlier slab may arrive first.
        while (answer := self._socket.recv(_ANSWER_BYTES)) and not answer.startswith(slab_id):
            pass
        if answer != slab_id + _TAKEN:
            raise OSError("the trainer did not take the memory")

    def close(self) -> None:
        self._socket.close()
