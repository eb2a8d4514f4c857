"""What one schedule is about: everything in it is drawn from one seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from tests.support.simulation.network import FAIR, Weather

FLAVOURS = ("workers", "network", "coordinator", "epochs", "poison", "timeouts", "storm", "liars")

# Tries of one index before it is computed at last.
NEVER = math.inf


@dataclass(slots=True)
class Scenario:
    """Times in seconds."""

    seed: int
    flavour: str
    rng: random.Random
    lengths: list[int] = field(default_factory=list)
    workers_count: int = 2
    supervised: bool = True
    item_seconds: float = 0.01
    ordered: bool = True
    shuffle: bool = False
    prefetch: bool = False
    # Probability that a prefetched epoch is replaced before its first batch is taken.
    replacement: float = 0.0
    # Probability, at each take, that the trainer wants no more of the epoch.
    early_end: float = 0.0
    max_queue_size: int | None = 10
    max_bytes: int | None = None
    batch_bytes: int = 1000
    retries: int = 0
    skip_errors: bool = False
    max_batches: int | None = None
    heartbeat_interval: float = 1.0
    worker_timeout: float = 10.0
    coordinator_timeout: float = 30.0
    weather: Weather = FAIR
    hedge_factor: float | None = None
    # Only where supervisors report.
    batch_timeout: float | None = None
    # Index -> how many tries raise, kill their worker, or never end, before one succeeds.
    failing: dict[int, float] = field(default_factory=dict)
    poison: dict[int, float] = field(default_factory=dict)
    hanging: dict[int, float] = field(default_factory=dict)
    # The second host has other data than the first one.
    astray: bool = False
    # Peers that do what no honest one does.
    liars_count: int = 0
    trainer_seconds: float = 0.001
    trainer_burst: int = 1
    # What goes wrong, each with a weight, and how often.
    fault_weights: dict[str, float] = field(default_factory=dict)
    faults_count: int = 0
    faults_until: float = 5.0

    @classmethod
    def from_seed(cls, seed: int) -> Scenario:
        rng = random.Random(seed)
        scenario = cls(seed, FLAVOURS[seed % len(FLAVOURS)], rng)
        scenario._draw_the_job()
        _DRAW_FLAVOUR[scenario.flavour](scenario)
        work = sum(scenario.lengths) * scenario.item_seconds / scenario.workers_count
        # Not from `rng`: the schedule is otherwise that of its seed.
        scenario.astray = seed % 3 == 0 and scenario.workers_count > 1
        scenario.early_end = 0.1 if seed // len(FLAVOURS) % 4 == 1 else 0.0
        scenario.faults_until = min(20.0, max(0.5, 1.5 * work))
        return scenario

    def _draw_the_job(self) -> None:
        rng = self.rng
        self.lengths = [rng.randint(1, 40) for _ in range(rng.randint(1, 3))]
        self.workers_count = rng.randint(1, 4)
        self.supervised = rng.random() < 0.6
        self.item_seconds = rng.choice((0.0002, 0.002, 0.02, 0.1, 0.3))
        self.ordered = rng.random() < 0.7
        self.shuffle = rng.random() < 0.5
        self.prefetch = rng.random() < 0.5
        self.max_queue_size = rng.choice((0, 1, 3, 10, 64, None))
        self.trainer_seconds = rng.choice((0.0, 0.001, 0.02, 0.2))
        self.trainer_burst = rng.choice((1, 1, 3, 20))
        self.hedge_factor = rng.choice((None, 1.0, 3.0, 3.0))
        if rng.random() < 0.3:
            self.heartbeat_interval, self.worker_timeout, self.coordinator_timeout = 0.25, 2.5, 7.5
        self.weather = Weather(delay=rng.choice((0.0002, 0.005, 0.05)), jitter=rng.choice((0.0, 0.001, 0.02)))

    def _draw_workers(self) -> None:
        self.fault_weights = {"crash": 4, "pause": 3, "hang": 2, "slow": 1, "join": 2, "drain": 3, "power_loss": 1}
        self.faults_count = self.rng.randint(1, 6)
        if self.rng.random() < 0.2:
            self.max_batches = self.rng.randint(3, 15)

    def _draw_network(self) -> None:
        rng = self.rng
        self.fault_weights = {"cut": 4, "stall": 2, "break": 4, "drain": 1, "crash": 1}
        self.faults_count = rng.randint(1, 6)
        self.weather = Weather(
            delay=rng.choice((0.0002, 0.01, 0.1)),
            jitter=rng.choice((0.001, 0.02, 0.2)),
            loss=rng.choice((0.0, 0.01, 0.1, 0.3)),
            duplication=rng.choice((0.0, 0.1)),
            reordering=rng.choice((0.0, 0.1)),
        )

    def _draw_coordinator(self) -> None:
        self.fault_weights = {"coordinator_pause": 3, "coordinator_restart": 3, "crash": 1, "break": 1}
        self.faults_count = self.rng.randint(1, 4)

    def _draw_epochs(self) -> None:
        rng = self.rng
        self.lengths = [rng.randint(1, 25) for _ in range(rng.randint(2, 6))]
        self.prefetch = rng.random() < 0.8
        self.replacement = rng.choice((0.0, 0.5))
        self.retries = rng.randint(0, 2)
        self.skip_errors = rng.random() < 0.5
        self.failing = {rng.randrange(25): rng.choice((1, 2, NEVER)) for _ in range(rng.randint(0, 4))}
        if rng.random() < 0.4:
            self.max_bytes = rng.choice((1, 3, 8)) * self.batch_bytes
        self.fault_weights = {"crash": 2, "pause": 1, "break": 1}
        self.faults_count = rng.randint(0, 2)

    def _draw_poison(self) -> None:
        rng = self.rng
        self.supervised = True
        self.lengths = [rng.randint(5, 25) for _ in range(rng.randint(1, 2))]
        self.poison = {rng.randrange(25): rng.choice((1, 2, NEVER)) for _ in range(rng.randint(1, 3))}
        self.skip_errors = rng.random() < 0.3
        self.fault_weights = {"crash": 1, "break": 1, "pause": 1, "drain": 1}
        self.faults_count = rng.randint(0, 2)

    def _draw_timeouts(self) -> None:
        """Batches that never end, and slow workers that a time-out takes for stuck ones."""
        rng = self.rng
        self.supervised = True
        self.lengths = [rng.randint(5, 25) for _ in range(rng.randint(1, 3))]
        self.batch_timeout = rng.choice((0.5, 2.0, 5.0))
        self.hanging = {rng.randrange(25): rng.choice((1, 2, NEVER)) for _ in range(rng.randint(1, 3))}
        self.skip_errors = rng.random() < 0.3
        self.retries = rng.choice((0, 0, 2))
        self.fault_weights = {"crash": 2, "break": 1, "pause": 2, "hang": 2, "slow": 2, "drain": 1}
        self.faults_count = rng.randint(0, 4)

    def _draw_storm(self) -> None:
        self._draw_epochs()
        self._draw_network()
        self.fault_weights = {
            "crash": 2,
            "pause": 2,
            "hang": 1,
            "slow": 1,
            "join": 1,
            "power_loss": 1,
            "drain": 1,
            "cut": 2,
            "stall": 1,
            "break": 2,
            "coordinator_pause": 1,
            "coordinator_restart": 1,
        }
        self.faults_count = self.rng.randint(3, 10)
        if self.supervised and self.rng.random() < 0.3:
            self.batch_timeout = self.rng.choice((0.5, 3.0))

    def _draw_liars(self) -> None:
        self.liars_count = self.rng.randint(1, 3)
        self.fault_weights = {"crash": 2, "pause": 1, "break": 2, "drain": 1}
        self.faults_count = self.rng.randint(0, 4)


_DRAW_FLAVOUR = {
    "workers": Scenario._draw_workers,
    "network": Scenario._draw_network,
    "coordinator": Scenario._draw_coordinator,
    "epochs": Scenario._draw_epochs,
    "poison": Scenario._draw_poison,
    "timeouts": Scenario._draw_timeouts,
    "storm": Scenario._draw_storm,
    "liars": Scenario._draw_liars,
}
