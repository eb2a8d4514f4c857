"""Where the compute thread puts large batches: into an arena, as long as the trainer can read it."""

from __future__ import annotations

from enqueuer.transport.arena import Arena, is_available


class BatchMemory:
    """One arena for each session: what the last trainer never gave back is not waited for."""

    def __init__(self, *, shares_memory: bool) -> None:
        """``shares_memory`` says that trainer and worker are on one host, and trust each other."""
        self._wanted = shares_memory and is_available()
        self._session = b""
        self._arena: Arena | None = None

    def arena(self, session: bytes) -> Arena | None:
        """For the compute thread: where batches of this session go; None for the socket."""
        if not self._wanted:
            self._arena = None
        elif session != self._session or self._arena is None:
            self._session, self._arena = session, Arena()
        return self._arena

    def refuse(self) -> None:
        """For the I/O thread: the trainer cannot read it."""
        self._wanted = False
