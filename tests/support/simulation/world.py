"""What everybody in a schedule shares: time, chance, the network, and what the user's Sequence does."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from tests.support.simulation.clock import Clock
from tests.support.simulation.network import Network
from tests.support.simulation.scenario import Scenario
from tests.support.simulation.story import Story

if TYPE_CHECKING:
    from tests.support.simulation.trainer_host import TrainerHost

KILLED = -9


@dataclass(frozen=True, slots=True)
class Payload:
    """A batch that says where it belongs, so that a wrong delivery shows."""

    session: bytes
    epoch: int
    generation: int
    index: int
    # Of the data that it was computed from.
    data: int = 0


class Verdict(Enum):
    SUCCEEDS = auto()
    FAILS = auto()
    KILLS = auto()
    HANGS = auto()


class World:
    """One schedule's surroundings."""

    trainer: TrainerHost

    def __init__(self, scenario: Scenario, *, told: bool) -> None:
        self.scenario = scenario
        self.rng: random.Random = scenario.rng
        self.clock = Clock()
        self.story = Story(self.clock, told=told)
        self.network = Network(self.clock, self.rng, self.story, scenario.weather)
        # How many workers died while they computed an index, for whatever reason.
        self.deaths: Counter[tuple[int, int]] = Counter()
        # How many workers were ended because an index took too long.
        self.timeouts: Counter[tuple[int, int]] = Counter()
        self._tries: Counter[tuple[int, int]] = Counter()

    def new_id(self) -> bytes:
        return self.rng.getrandbits(128).to_bytes(16, "big")

    def verdict(self, epoch: int, index: int) -> Verdict:
        """What computing this index would do now. A try without an end is counted here, any other by `tried`."""
        if self._tries[epoch, index] < self.scenario.poison.get(index, 0):
            self._tries[epoch, index] += 1
            return Verdict.KILLS
        if self._tries[epoch, index] < self.scenario.hanging.get(index, 0):
            self._tries[epoch, index] += 1
            return Verdict.HANGS
        if self._tries[epoch, index] < self.scenario.failing.get(index, 0):
            return Verdict.FAILS
        return Verdict.SUCCEEDS

    def tried(self, epoch: int, index: int) -> Verdict:
        """The item has been computed: what it did."""
        fails = self._tries[epoch, index] < self.scenario.failing.get(index, 0)
        self._tries[epoch, index] += 1
        return Verdict.FAILS if fails else Verdict.SUCCEEDS
