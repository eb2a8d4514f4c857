"""The loop of a fleet: asks for the trainer's demand, and has as many actors as the demand takes, until `close`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from enqueuer.engines.ray.actors import Actors
from enqueuer.engines.ray.size import Demand, FleetSize

logger = logging.getLogger("enqueuer")

_TURN_SECONDS = 1.0
# While actors drain, so that each is released soon after its workers have left.
_SHORT_TURN_SECONDS = 0.1


class FleetLoop:
    """Keeps the actors of one fleet at the number that the trainer needs.

    One thread runs it; any other may call `close` and `kill`.

    ``ask`` returns the trainer's demand; None: the trainer is gone for good.
    """

    def __init__(self, ask: Callable[[], Demand | None], size: FleetSize, actors: Actors) -> None:
        self._ask = ask
        self._size = size
        self._actors = actors
        # Set from other threads, in this order: drain all actors; end them at once.
        self._closing, self._killing = threading.Event(), threading.Event()

    def run(self) -> None:
        """Serve until `close` or the trainer's end, then drain all actors."""
        try:
            while not self._closing.is_set():
                self._turn()
            self._actors.resize(0, None, time.monotonic())
            while not self._actors.are_gone and not self._killing.wait(_SHORT_TURN_SECONDS):
                self._actors.look(time.monotonic())
        finally:
            self._actors.kill_all()

    def _turn(self) -> None:
        now = time.monotonic()
        demand = self._ask()
        if demand is None:
            self._closing.set()
            return
        before = self._size.workers_count
        count = self._size.decide(demand, now)
        if count != before:
            logger.info("the Ray fleet goes from %d to %d workers", before, count)
        self._actors.resize(count, demand.address, now)
        self._actors.look(now)
        self._closing.wait(_SHORT_TURN_SECONDS if self._actors.draining_count else _TURN_SECONDS)

    def close(self) -> None:
        """Have the actors drain and the loop end."""
        self._closing.set()

    def kill(self) -> None:
        """Have the actors end at once, and the loop as well."""
        self._closing.set()
        self._killing.set()
