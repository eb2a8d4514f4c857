"""The latest faults of a session, as texts: warnings, and the exceptions of items to be tried again."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

_MOST_KEPT = 256
_LONGEST_TEXT = 2_000


class Fault(NamedTuple):
    """One fault of a session, as a text.

    ``number`` counts the session's faults from 1; ``seconds`` are those since the session's start.
    """

    number: int
    seconds: float
    text: str


class FaultHistory:
    """The latest faults of a session that began at ``now``."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._count = 0
        self._faults: deque[Fault] = deque(maxlen=_MOST_KEPT)

    def note(self, now: float, text: str) -> None:
        """Add a fault."""
        self._count += 1
        self._faults.append(Fault(self._count, now - self._began, text[:_LONGEST_TEXT]))

    def after(self, number: int) -> list[Fault]:
        """The kept faults with a higher number, the earliest first."""
        return [fault for fault in self._faults if fault.number > number]
