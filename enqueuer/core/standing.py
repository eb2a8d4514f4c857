"""One peer's standing: how much it may say, and what it has done."""

from __future__ import annotations

from dataclasses import dataclass, field

# Offences after which a peer is cut off: one of a kind could be a defect of ours. Of somebody who has not said Hello
# it takes more, since a connection that means another port is no attack.
MOST_OFFENCES = 10
MOST_OF_STRANGERS = 50
# Messages at once, and each second thereafter, beyond what answers leases. An honest worker says a heartbeat a second
# and 100 lines; after a pause of the trainer's, half a minute of that comes at once.
_TALK_BURST, _TALK_PER_SECOND = 5_000.0, 250.0
# Of somebody who has not said Hello, which is the first thing to say and is answered at once.
_STRANGERS_BURST, _STRANGERS_PER_SECOND = 300.0, 20.0
# Of what others say, lines for the trainer's log; what is beyond is left out.
_LINES_BURST, _LINES_PER_SECOND = 400.0, 200.0


@dataclass(slots=True)
class Rate:
    """So many at once, and so many each second thereafter. Times in seconds."""

    burst: float
    per_second: float
    _left: float = -1.0
    _at: float = 0.0

    def take(self, now: float, weight: int = 1) -> bool:
        """Whether there is room for one more, or one as dear as ``weight`` of them; it then has it."""
        left = self.burst if self._left < 0.0 else min(self.burst, self._left + (now - self._at) * self.per_second)
        self._at = now
        self._left = left - weight if left >= weight else left
        return left >= weight


@dataclass(slots=True)
class Standing:
    """One peer's: a connection's, until that has said who it is, then the worker's or supervisor's on it."""

    name: str
    most: int = MOST_OFFENCES
    offences_count: int = 0
    cut_off: bool = False
    # Which is said once, however often it says Hello.
    was_rejected: bool = False
    talk: Rate = field(default_factory=lambda: Rate(_TALK_BURST, _TALK_PER_SECOND))
    lines: Rate = field(default_factory=lambda: Rate(_LINES_BURST, _LINES_PER_SECOND))

    @classmethod
    def of_stranger(cls, name: str) -> Standing:
        return cls(name, MOST_OF_STRANGERS, talk=Rate(_STRANGERS_BURST, _STRANGERS_PER_SECOND))

    def become(self, name: str) -> None:
        """It has said Hello."""
        self.name, self.most, self.talk = name, MOST_OFFENCES, Rate(_TALK_BURST, _TALK_PER_SECOND)
