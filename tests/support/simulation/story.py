"""The story of one schedule, line by line, to find out why it failed."""

from __future__ import annotations

from tests.support.simulation.clock import Clock

_LONGEST_LINE = 400


class Story:
    """Costs nothing until it is told: a failed seed is run once more, with the story written down."""

    def __init__(self, clock: Clock, *, told: bool) -> None:
        self.told = told
        self.lines: list[str] = []
        self._clock = clock

    def tell(self, teller: str, what: str, thing: object = "") -> None:
        if self.told:
            self.lines.append(f"{self._clock.now:10.4f}  {teller:<14} {what} {thing}"[:_LONGEST_LINE])
