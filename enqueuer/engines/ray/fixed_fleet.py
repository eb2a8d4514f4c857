"""A fleet of a fixed number of workers on a Ray cluster, for a trainer elsewhere: what `enqueuer launch ray` runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from enqueuer.engines.ray.actors import Actors, actor_deadline, import_ray
from enqueuer.engines.ray.loop import FleetLoop
from enqueuer.engines.ray.program import ProgramSettings
from enqueuer.engines.ray.size import Demand, FleetSize

_POLL_SECONDS = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class FixedFleet:
    """Workers for the trainer at ``connect``, until a signal.

    ``arguments`` are those of `enqueuer_worker.run_worker` without ``connect`` and ``name``; ``token`` is the text of a
    worker's token, or ''. ``cpus_per_worker`` CPUs are set aside for each worker.
    """

    connect: str
    workers_count: int
    cpus_per_worker: float
    name: str
    arguments: Mapping[str, Any]
    token: str = field(repr=False)

    def run(self, say: Callable[[str], None]) -> int:
        """Serve until a signal, then drain all workers; a second signal ends them at once. The main thread calls this.

        `ray.init` was called. ``say`` is called with lines about the fleet. Returns the exit code: 0 when all workers
        have drained, 1 when the fleet has ended by itself, since Ray has; 128 + the signal's number after a second one.
        """
        actors = Actors(self._settings, {"num_cpus": self.cpus_per_worker}, actor_deadline(self.arguments))
        size = FleetSize(self.workers_count, self.workers_count, 0.0)
        ray = import_ray()
        loop = FleetLoop(lambda: Demand(self.connect) if ray.is_initialized() else None, size, actors)
        # A list, and no event: a handler may interrupt its own thread while that holds the event's lock.
        signals: list[int] = []

        def note(number: int, _: FrameType | None) -> None:
            signals.append(number)

        # After those of `ray.init`, which would end this process with its actors.
        before = {number: signal.signal(number, note) for number in _SIGNALS}
        thread = threading.Thread(target=loop.run, name="enqueuer-ray-fleet", daemon=True)
        thread.start()
        try:
            self._attend(thread, loop, actors, signals, say)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if len(signals) > 1:
            return 128 + signals[1]
        return 0 if signals else 1

    def _attend(
        self, thread: threading.Thread, loop: FleetLoop, actors: Actors, signals: list[int], say: Callable[[str], None]
    ) -> None:
        """Pass signals on, and tell how many workers have a place, until the loop has ended."""
        placed_count = heard = 0
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
            if not signals and actors.placed_count != placed_count:
                placed_count = actors.placed_count
                say(f"{placed_count} of {self.workers_count} workers have a place")
            if len(signals) == heard:
                continue
            heard += 1
            if heard == 1:
                say("draining; a second Ctrl-C ends all workers at once")
                loop.close()
            else:
                loop.kill()

    def _settings(self, number: int, address: str) -> ProgramSettings:
        arguments = {**self.arguments, "connect": address, "name": f"{self.name}-{number}"}
        return ProgramSettings(arguments, self.token)
