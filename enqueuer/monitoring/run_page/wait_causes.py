"""The trainer's time by cause, as the verdict named it at the time: for each epoch, and for the run.

The verdict on an epoch is the cause with most of its time. In a long run, neighbouring epochs share an entry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from enqueuer.core.verdict import Cause

_UNDECIDED = Cause.TOO_EARLY.value


@dataclass(slots=True)
class CauseTime:
    """How long one cause held, how long the trainer waited meanwhile, and the verdict's latest words on it."""

    cause: str
    seconds: float = 0.0
    wait_seconds: float = 0.0
    sentence: str = ""
    cure: str = ""
    desired_slots: int | None = None

    def add(self, other: CauseTime) -> None:
        """Take over the times and the words of a later part."""
        self.seconds += other.seconds
        self.wait_seconds += other.wait_seconds
        self.sentence, self.cure = other.sentence, other.cure
        self.desired_slots = other.desired_slots


@dataclass(slots=True)
class Causes:
    """The causes of one stretch of time, by name."""

    of: dict[str, CauseTime] = field(default_factory=dict)

    def add(self, part: CauseTime) -> None:
        """Count a part."""
        self.of.setdefault(part.cause, CauseTime(part.cause)).add(part)

    @property
    def main(self) -> CauseTime | None:
        """The longest cause; "too early to tell" only if it is the only one."""
        return max(self.of.values(), key=lambda one: (one.cause != _UNDECIDED, one.seconds), default=None)

    def to_json(self) -> list[dict[str, Any]]:
        """The causes, the longest wait first."""
        return [_to_json(one) for one in sorted(self.of.values(), key=lambda one: -one.wait_seconds)]


@dataclass(slots=True)
class _Epochs:
    """One epoch, or several in a row."""

    first: int
    last: int
    batches: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    causes: Causes = field(default_factory=Causes)

    def add(self, later: _Epochs) -> None:
        self.last = later.last
        self.batches += later.batches
        self.seconds += later.seconds
        self.wait_seconds += later.wait_seconds
        for part in later.causes.of.values():
            self.causes.add(part)

    def to_json(self) -> dict[str, Any]:
        main = self.causes.main
        return {
            "first": self.first,
            "last": self.last,
            "batches": self.batches,
            "seconds": round(self.seconds, 2),
            "wait_seconds": round(self.wait_seconds, 2),
            "verdict": None if main is None else _to_json(main),
        }


class WaitCauses:
    """Adds the time between two looks to the epoch and to the run; at most ``most`` entries for epochs."""

    def __init__(self, most: int = 200) -> None:
        self.run = Causes()
        # Counts how often epochs were merged.
        self.version = 0
        self._most = most
        self._epochs: list[_Epochs] = []
        # The number of epochs in an entry.
        self._width = 1

    def add(self, epoch: int, batches: int, part: CauseTime) -> None:
        """The trainer took so many batches of this epoch in the time of ``part``."""
        self.run.add(part)
        epochs = self._epochs
        last = epochs[-1].last if epochs else epoch - 1
        if not epochs or (epoch > last and epoch // self._width != last // self._width):
            # Between two looks, several short epochs may have passed.
            epochs.append(_Epochs(min(last + 1, epoch), epoch))
        entry = _Epochs(epoch, max(epoch, last), batches, part.seconds, part.wait_seconds)
        entry.causes.add(part)
        epochs[-1].add(entry)
        while len(epochs) > self._most:
            self._merge()

    def _merge(self) -> None:
        self._width *= 2
        self.version += 1
        merged: list[_Epochs] = []
        for entry in self._epochs:
            if merged and entry.last // self._width == merged[-1].last // self._width:
                merged[-1].add(entry)
            else:
                merged.append(entry)
        self._epochs[:] = merged

    def __len__(self) -> int:
        return len(self._epochs)

    def epochs(self, first: int = 0) -> list[dict[str, Any]]:
        """The entries of epochs from this one on, the earliest first."""
        return [entry.to_json() for entry in self._epochs[first:]]


def _to_json(one: CauseTime) -> dict[str, Any]:
    return {
        "cause": one.cause,
        "seconds": round(one.seconds, 2),
        "wait_seconds": round(one.wait_seconds, 2),
        "sentence": one.sentence,
        "cure": one.cure,
        "desired_slots": one.desired_slots,
    }
