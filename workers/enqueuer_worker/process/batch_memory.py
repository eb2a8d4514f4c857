"""Where the compute thread puts large batches: into an arena, where a trainer on the same host takes it."""

from __future__ import annotations

import logging
from pathlib import Path

from enqueuer.memory.arena import Arena
from enqueuer.memory.buffer_pool import pool
from enqueuer.memory.shared_lock import shared_lock
from enqueuer.memory.slab_exchange import SlabSender, common_path, is_available
from enqueuer.protocol.batch import Trust

logger = logging.getLogger(__name__)


class BatchMemory:
    """One arena for each session: what the last trainer never gave back is not waited for."""

    def __init__(self, incarnation: bytes, trust: Trust, lock_fd: int | None) -> None:
        self._incarnation = incarnation
        self._trust = trust
        self._lock = shared_lock(lock_fd)
        self._session = b""
        self._refused = False
        self._sender: SlabSender | None = None
        self._arena: Arena | None = None

    def join(self, session: bytes, offer: object) -> None:
        """For the compute thread: the trainer offers to take shared memory, ``[where, secret]``, or None."""
        if session == self._session:
            return
        self.leave()
        self._session = session
        match offer:
            case [str(where), bytes(secret)] if is_available():
                self._connect(where, secret)

    def leave(self) -> None:
        """For either thread: the session is over. What nobody looks at any more goes back to the system."""
        self._session, self._refused, self._arena = b"", False, None
        pool.clear()
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()

    def _connect(self, where: str, secret: bytes) -> None:
        session = self._session
        try:
            # Only our own trainer says where to connect to; any other, a name that its socket would have here.
            path = Path(where) if self._trust is Trust.LOCAL else common_path(where)
            sender = SlabSender(path, secret, self._incarnation)
        except OSError as error:
            logger.debug("batches go through the socket: %s", error)
            return
        self._sender, self._arena = sender, Arena(sender.send, self._lock)
        if self._session != session:
            self.leave()  # the session has ended meanwhile

    @property
    def arena(self) -> Arena | None:
        """For the compute thread: where batches go; None for the socket."""
        return None if self._refused else self._arena

    def refuse(self) -> None:
        """For the I/O thread: this trainer cannot read it."""
        self._refused = True
