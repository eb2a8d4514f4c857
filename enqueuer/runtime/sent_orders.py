"""The drawn orders of the open epochs, sent to workers beside the Sequence's state, since that outlives an epoch.

local processes    in a shared segment for each order; all map the same memory
remote workers     in the message itself
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from enqueuer.errors import ConfigurationError
from enqueuer.memory.segment import SharedSegment
from enqueuer.protocol.batch import Trust
from enqueuer.protocol.drawn_order import DrawnOrder, carried_order, named_order


class SentOrders:
    """Owns the segments. ``processes`` and ``remote``: the session's kinds of workers."""

    def __init__(self, directory: Path, *, processes: bool, remote: bool) -> None:
        self._directory = directory
        self._processes = processes
        self._remote = remote
        self._segments: list[tuple[int, SharedSegment]] = []

    def add_to(
        self, wire: dict[str, Any], remote_wire: dict[str, Any] | None, epoch: int, drawn: DrawnOrder, *, is_spec: bool
    ) -> tuple[dict[str, Any], dict[str, Any] | None, str]:
        """Add the order to both states of an epoch; returns both, and why no remote worker can have a live object.

        The reason is '' if remote workers can have it. Raises ConfigurationError if the order of a spec cannot travel.
        """
        bare = wire
        if self._processes:
            segment = SharedSegment.create(drawn.to_parts(Trust.LOCAL), directory=self._directory)
            self._segments.append((epoch, segment))
            wire = {**wire, **named_order(segment.path)}
        if not self._remote or not (is_spec or remote_wire is not None):
            return wire, remote_wire, ""
        try:
            carried = carried_order(drawn.to_parts(Trust.REMOTE))
        except ConfigurationError as error:
            if is_spec:
                raise
            return wire, None, str(error)
        return wire, {**(bare if remote_wire is None else remote_wire), **carried}, ""

    def forget(self, epoch: int) -> None:
        """Close the orders of all epochs before this one. A worker may still be loading this one."""
        for number, segment in self._segments:
            if number < epoch:
                segment.close()
        self._segments = [entry for entry in self._segments if entry[0] >= epoch]

    def close(self) -> None:
        """Close all segments. Workers keep their mappings."""
        for _, segment in self._segments:
            segment.close()
        self._segments.clear()
