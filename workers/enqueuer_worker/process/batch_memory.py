"""The shared memory for large batches: an arena, read by a trainer on the same host."""

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
    """One worker's memory for batches: an arena for each session, so unreturned blocks of the last one do no harm."""

    def __init__(self, incarnation: bytes, trust: Trust, lock_fd: int | None) -> None:
        self._incarnation = incarnation
        self._trust = trust
        self._lock = shared_lock(lock_fd)
        self._session = b""
        self._refused = False
        self._sender: SlabSender | None = None
        self._arena: Arena | None = None

    def join(self, session: bytes, offer: object) -> None:
        """Join a session, in the compute thread. The trainer offers ``[path, secret]`` of its socket, or None."""
        if session == self._session:
            return
        self.leave()
        self._session = session
        match offer:
            case [str(path), bytes(secret)] if is_available():
                self._connect(path, secret)

    def leave(self) -> None:
        """Leave the session, in either thread; memory without readers goes back to the system."""
        self._session, self._refused, self._arena = b"", False, None
        pool.clear()
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()

    def _connect(self, offered: str, secret: bytes) -> None:
        session = self._session
        try:
            # The trainer that started this worker may name any path; another one only a name in a common directory.
            path = Path(offered) if self._trust is Trust.LOCAL else common_path(offered)
            sender = SlabSender(path, secret, self._incarnation)
        except OSError as error:
            logger.debug("batches go through the socket: %s", error)
            return
        self._sender, self._arena = sender, Arena(sender.send, self._lock)
        if self._session != session:
            self.leave()  # the session has ended meanwhile

    @property
    def arena(self) -> Arena | None:
        """The arena for the next batch, in the compute thread; None: batches go through the socket."""
        return None if self._refused else self._arena

    def refuse(self) -> None:
        """Use the arena no more, in the I/O loop: this trainer cannot read it."""
        self._refused = True
