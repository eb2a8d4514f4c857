"""What goes wrong in a schedule, and when. Every fault names its victim in the story."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tests.support.simulation.network import Link
from tests.support.simulation.worker_host import WorkerHost

if TYPE_CHECKING:
    from tests.support.simulation.cluster import Cluster


class Faults:
    """Plans a scenario's faults and makes them happen."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._rng = cluster.world.rng
        self.over = False
        self.last_at = 0.0

    def plan(self) -> None:
        scenario = self._world.scenario
        kinds, weights = list(scenario.fault_weights), list(scenario.fault_weights.values())
        for _ in range(scenario.faults_count):
            kind = self._rng.choices(kinds, weights)[0]
            time = self._rng.uniform(0.0, scenario.faults_until)
            self._world.clock.at(time, partial(self._happen, kind))
        self.last_at = scenario.faults_until + self._longest
        self._world.clock.at(self.last_at, self._heal)

    @property
    def _longest(self) -> float:
        """Longer than the liveness, so that some victims come back after they were lost."""
        return 1.5 * self._world.scenario.worker_timeout

    def _duration(self) -> float:
        if self._rng.random() < 0.3:
            return self._rng.uniform(0.0, self._longest)
        return self._rng.uniform(0.0, 2 * self._world.scenario.heartbeat_interval)

    def _happen(self, kind: str) -> None:
        if not self.over:
            _FAULTS[kind](self)

    def _tell(self, what: str, victim: object = "") -> None:
        self._world.story.tell("FAULT", what, victim)

    def _any_worker(self) -> WorkerHost | None:
        workers = [worker for worker in self._cluster.workers if worker.alive]
        return self._rng.choice(workers) if workers else None

    def _any_link(self) -> Link | None:
        links = [peer.link for peer in self._cluster.peers if peer.link is not None and peer.link.is_up]
        return self._rng.choice(links) if links else None

    # ------------------------------------------------------------ workers

    def _crash(self) -> None:
        worker = self._any_worker()
        if worker is not None:
            self._tell("crash", worker.name)
            worker.crash()

    def _pause(self) -> None:
        worker = self._any_worker()
        if worker is not None:
            duration = self._duration()
            self._tell(f"pause for {duration:.3f} s", worker.name)
            worker.pause()
            self._world.clock.after(duration, worker.resume)

    def _hang(self) -> None:
        """The item never ends; somebody kills the process in the end, or it is silent as well and lost."""
        worker = self._any_worker()
        if worker is not None:
            duration = self._duration()
            self._tell(f"hang for {duration:.3f} s", worker.name)
            worker.hanging = True
            if self._rng.random() < 0.5:
                worker.pause()
            self._world.clock.after(duration, worker.crash)

    def _slow(self) -> None:
        worker = self._any_worker()
        if worker is not None:
            self._tell("slow down", worker.name)
            worker.slowness = self._rng.uniform(2.0, 20.0)

    def _join(self) -> None:
        self._tell("join")
        self._rng.choice(self._cluster.supervisors).start_child()

    def _drain(self) -> None:
        worker = self._any_worker()
        if worker is not None:
            self._tell("drain", worker.name)
            worker.drain()

    def _power_loss(self) -> None:
        """A whole host is gone, and nobody is there to say so; another one comes in its place."""
        number = self._rng.randrange(len(self._cluster.supervisors))
        host = self._cluster.supervisors[number]
        self._tell("power loss", host.name)
        self._cluster.supervisors[number] = host.lose_power()

    # ------------------------------------------------------------ the network

    def _cut(self) -> None:
        """A partition: one direction or both, one channel or both, and nobody is told."""
        self._disturb("cut", "cut_until")

    def _stall(self) -> None:
        self._disturb("stall", "stalled_until")

    def _disturb(self, what: str, attribute: str) -> None:
        link = self._any_link()
        if link is None:
            return
        until = self._world.clock.now + self._duration()
        pipes = [pipe for pipe in link.pipes if self._rng.random() < 0.6] or list(link.pipes)
        for pipe in pipes:
            self._tell(f"{what} until {until:.3f}", pipe.name)
            setattr(pipe, attribute, until)

    def _break(self) -> None:
        link = self._any_link()
        if link is not None:
            seen_by_peer, seen_by_coordinator = self._rng.random() < 0.7, self._rng.random() < 0.7
            self._tell(f"break (seen by peer: {seen_by_peer}, coordinator: {seen_by_coordinator})", link.name)
            link.break_off(seen_by_peer=seen_by_peer, seen_by_coordinator=seen_by_coordinator)

    # ------------------------------------------------------------ the trainer

    def _coordinator_pause(self) -> None:
        duration = 3 * self._duration()
        self._tell(f"the trainer pauses for {duration:.3f} s")
        self._world.trainer.pause()
        self._world.clock.after(duration, self._world.trainer.resume)

    def _coordinator_restart(self) -> None:
        """The trainer is killed and started again, on the same address."""
        seen = self._rng.random() < 0.7
        self._tell(f"the trainer restarts (seen by its peers: {seen})")
        for peer in self._cluster.peers:
            if seen and peer.link is not None and peer.link.is_up:
                peer.link.break_off(seen_by_peer=True, seen_by_coordinator=True)
        self._world.trainer.paused = False
        self._world.trainer.start_session()

    # ------------------------------------------------------------ the end of it

    def _heal(self) -> None:
        """Everything that can be mended is mended. Nobody new comes: a fresh worker would hide a confused old one."""
        self.over = True
        self._tell("no more faults")
        self._world.network.heal()
        for worker in list(self._cluster.workers):
            if worker.hanging:
                worker.crash()
            elif worker.paused:
                worker.resume()
            worker.slowness = 1.0
        if self._world.trainer.paused:
            self._world.trainer.resume()


_FAULTS: dict[str, Callable[[Faults], None]] = {
    "crash": Faults._crash,
    "pause": Faults._pause,
    "hang": Faults._hang,
    "slow": Faults._slow,
    "join": Faults._join,
    "drain": Faults._drain,
    "power_loss": Faults._power_loss,
    "cut": Faults._cut,
    "stall": Faults._stall,
    "break": Faults._break,
    "coordinator_pause": Faults._coordinator_pause,
    "coordinator_restart": Faults._coordinator_restart,
}
