"""One schedule from its seed to its end."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.simulation.faults import Faults
from tests.support.simulation.liar_host import LiarHost
from tests.support.simulation.scenario import Scenario
from tests.support.simulation.supervisor_host import SupervisorHost
from tests.support.simulation.trainer_host import TrainerHost
from tests.support.simulation.worker_host import WorkerHost
from tests.support.simulation.world import World

# Simulated seconds after the last fault within which everything must be delivered, and then every worker be drained.
# The longest legal wait is a connection that is dead without either side being told: 30 s.
_FINISH_SECONDS = 120.0
_DRAIN_SECONDS = 50.0
# Of a failure's story, what is printed with it.
_STORY_LINES = 200


class ScheduleFailed(AssertionError):
    """Its text is the seed, the reason, the story, and how to see it again."""


class Cluster:
    """A trainer, supervisors and their workers, and what goes wrong between them."""

    def __init__(self, scenario: Scenario, *, told: bool) -> None:
        self.world = World(scenario, told=told)
        self.world.trainer = TrainerHost(self.world)
        hosts = 1 if scenario.workers_count == 1 else 2
        self.supervisors = [
            SupervisorHost(
                self.world,
                f"host{number}",
                (scenario.workers_count + number) // hosts,
                reports=scenario.supervised,
                data=number if scenario.astray else 0,
            )
            for number in range(hosts)
        ]
        self.liars = [LiarHost(self.world, number) for number in range(scenario.liars_count)]
        self.faults = Faults(self)
        self.faults.plan()

    @property
    def workers(self) -> list[WorkerHost]:
        return [worker for supervisor in self.supervisors for worker in supervisor.children]

    @property
    def peers(self) -> list[WorkerHost | SupervisorHost]:
        return [*self.workers, *self.supervisors]

    def run(self) -> None:
        """Until the faults are over, every epoch is delivered and every worker has drained."""
        clock, trainer, faults = self.world.clock, self.world.trainer, self.faults
        self._run_until(lambda: trainer.done and faults.over, faults.last_at + _FINISH_SECONDS + self._work_seconds)
        assert trainer.done, "STUCK: not everything was delivered in time"
        self._run_until(lambda: all(liar.is_rejected for liar in self.liars), clock.now + _FINISH_SECONDS)
        assert all(liar.is_rejected for liar in self.liars), "a liar was not cut off"
        for supervisor in self.supervisors:
            supervisor.drain()
        self._run_until(lambda: not self.workers, clock.now + _DRAIN_SECONDS)
        assert not self.workers, f"STUCK: not drained in time: {[worker.name for worker in self.workers]}"

    @property
    def _work_seconds(self) -> float:
        """What one worker alone would need, and the trainer."""
        scenario = self.world.scenario
        return 2 * sum(scenario.lengths) * (scenario.item_seconds + scenario.trainer_seconds)

    def _run_until(self, done: Callable[[], bool], deadline: float) -> None:
        clock = self.world.clock
        while not done() and clock.now < deadline:
            clock.run_next()


def run_schedule(seed: int, *, told: bool = False) -> Cluster:
    """Raises whatever went wrong; `check_schedule` tells the story as well."""
    cluster = Cluster(Scenario.from_seed(seed), told=told)
    cluster.run()
    return cluster


def tell_schedule(seed: int) -> tuple[list[str], Exception | None]:
    """The story of one seed, and what went wrong in it, if anything did."""
    cluster = Cluster(Scenario.from_seed(seed), told=True)
    try:
        cluster.run()
    except Exception as error:
        return cluster.world.story.lines, error
    return cluster.world.story.lines, None


def check_schedule(seed: int) -> None:
    """Run one seed; if it fails, run it again to tell how it came to that."""
    try:
        run_schedule(seed)
    except Exception as error:
        lines, _ = tell_schedule(seed)
        story = "\n".join(lines[-_STORY_LINES:])
        raise ScheduleFailed(
            f"seed {seed}: {type(error).__name__}: {error}\n{story}\n"
            f"The whole story: python -m tests.simulation.run --seed {seed}"
        ) from error
