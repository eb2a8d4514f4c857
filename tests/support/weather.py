"""The fate of each packet on a wire: lost, late, overtaken or duplicated, or in the queue of a slow one.

Pure: time is an argument, and chance is seeded.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass

DOWN = 0  # from the first host (the trainer's) to the second
UP = 1
_DIRECTIONS = {"down": (DOWN,), "up": (UP,), "": (DOWN, UP)}
_CHANCES = ("loss", "reorder", "duplicate")
_TIMES = ("delay", "jitter")
# What is overtaken comes this much later: some packets' worth on a busy wire, too little for a sender's time-out.
_HELD_BACK_SECONDS = 0.01
# A slow wire's queue holds what it carries in this time; what comes while it is full is lost, as in a router.
_QUEUE_SECONDS = 0.2


@dataclass(slots=True)
class Counts:
    """Packets since the beginning."""

    carried: int = 0
    cut: int = 0
    lost: int = 0
    overtaken: int = 0
    duplicated: int = 0


class Weather:
    """The faults of one wire: `arrivals` decides on one packet, `command` changes the faults."""

    def __init__(self, delay: float, seed: int = 0) -> None:
        """``delay``: one way, in seconds."""
        self.counts = Counts()
        self._random = random.Random(seed)
        self._cut: set[int] = set()
        self._chances = dict.fromkeys(_CHANCES, 0.0)
        self._times = {"delay": delay, "jitter": 0.0}
        # When the last packet of a direction is due: delays vary, but a wire is a queue.
        self._last_due = [0.0, 0.0]
        # Bytes a second of one direction; 0: no limit. When each direction has sent all that is in its queue.
        self._rate = 0.0
        self._free_at = [0.0, 0.0]

    def command(self, line: str) -> str | None:
        """``cut``, ``cut up``, ``cut down``, ``mend``; ``loss``, ``reorder``, ``duplicate`` with a probability;
        ``delay``, ``jitter`` with milliseconds; ``rate`` with bytes a second, 0 for any; ``count``. Returns the answer,
        if there is one.

        Raises ValueError for anything else.
        """
        name, _, argument = line.strip().partition(" ")
        if name == "cut" and argument in _DIRECTIONS:
            self._cut.update(_DIRECTIONS[argument])
        elif name == "mend" and not argument:
            self._cut.clear()
        elif name in _CHANCES:
            self._chances[name] = float(argument)
        elif name in _TIMES:
            self._times[name] = float(argument) / 1000
        elif name == "rate":
            self._rate = float(argument)
        elif name == "count" and not argument:
            return " ".join(f"{key}={value}" for key, value in asdict(self.counts).items())
        else:
            raise ValueError(f"no such command: {line!r}")
        return None

    def arrivals(self, direction: int, now: float, nbytes: int = 0) -> list[float]:
        """The times at which a packet of this size, sent now, arrives at the other end: none, one or two."""
        if direction in self._cut:
            self.counts.cut += 1
            return []
        if self._happens("loss"):
            self.counts.lost += 1
            return []
        sent_at = now
        if self._rate:
            sent_at = max(now, self._free_at[direction]) + nbytes / self._rate
            if sent_at - now > _QUEUE_SECONDS:
                self.counts.lost += 1
                return []
            self._free_at[direction] = sent_at
        self.counts.carried += 1
        due = sent_at + self._times["delay"] + self._random.random() * self._times["jitter"]
        due = max(due, self._last_due[direction])
        if self._happens("reorder"):
            self.counts.overtaken += 1
            due += _HELD_BACK_SECONDS
        else:
            self._last_due[direction] = due
        if self._happens("duplicate"):
            self.counts.duplicated += 1
            return [due, due]
        return [due]

    def _happens(self, name: str) -> bool:
        # Without a chance none is drawn, so that a calm wire is the same whatever else was drawn before.
        return self._chances[name] > 0 and self._random.random() < self._chances[name]
