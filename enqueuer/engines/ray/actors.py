"""The actors of a fleet: starts them, looks after them and releases them.

    start ──► asked for ──► placed ◄──► restarted by Ray on another node
                 │            │
              killed       draining ──► killed, once its workers have left

The cluster's autoscaler acts on actors without a place. Ray starts an actor again if its node dies. If a worker program
cannot run, its actor is replaced after a pause; the pause doubles up to a minute.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from enqueuer.engines.ray.program import EnqueuerWorker, ProgramSettings
from enqueuer.rate_limit import RateLimit

logger = logging.getLogger("enqueuer")

# How often a placed actor is asked whether its program runs.
_LOOK_SECONDS = 5.0
_LEAST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0
# After this long without a place, the log says so, and then every few minutes.
_PATIENCE_SECONDS = 60.0
_TOLD_SECONDS = 300.0
# An actor is killed this long after the deadline of its own worker program.
_DRAIN_GRACE_SECONDS = 15.0
_DRAIN_SECONDS = 30.0


def actor_deadline(arguments: Mapping[str, Any]) -> float:
    """How many seconds an actor may drain whose worker program has these arguments."""
    return float(arguments.get("drain_timeout", _DRAIN_SECONDS)) + _DRAIN_GRACE_SECONDS


def import_ray() -> Any:
    """Import Ray at its first use. Raises ModuleNotFoundError with the name of the extra to install."""
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ModuleNotFoundError("ray is not installed: pip install 'enqueuer[ray]'", name="ray") from error
    return ray


@dataclass(slots=True)
class _Member:
    """One actor. ``node`` is None until it is placed; ``answer`` is the pending call for its node."""

    number: int
    address: str
    handle: Any
    answer: Any
    started_at: float
    node: str | None = None
    look_at: float = math.inf


@dataclass(frozen=True, slots=True)
class _Leaver:
    """A draining actor: ``answer`` is the pending call, which returns when its workers have left."""

    handle: Any
    answer: Any
    kill_at: float


class Actors:
    """All actors of one fleet. One thread uses it; the counts may be read from any.

    ``settings`` makes the settings of a worker program from its number and the trainer's address. ``options`` go to Ray
    with each actor. A draining actor is killed after ``drain_timeout`` seconds.
    """

    def __init__(
        self, settings: Callable[[int, str], ProgramSettings], options: Mapping[str, Any], drain_timeout: float
    ) -> None:
        self._ray = import_ray()
        self._settings = settings
        self._class = self._ray.remote(EnqueuerWorker).options(
            max_restarts=-1, **{"scheduling_strategy": "SPREAD", **options}
        )
        self._drain_timeout = drain_timeout
        self._members: list[_Member] = []
        self._leavers: list[_Leaver] = []
        self._started_count = 0
        self._pause = _LEAST_PAUSE_SECONDS
        self._start_at = -math.inf
        self._telling = RateLimit(1, 1 / _TOLD_SECONDS)

    @property
    def placed_count(self) -> int:
        """Actors that run on a node."""
        return sum(member.node is not None for member in self._members)

    @property
    def count(self) -> int:
        """Actors that run or wait for a place, without the draining ones."""
        return len(self._members)

    @property
    def draining_count(self) -> int:
        """Actors with workers that still finish their leases."""
        return len(self._leavers)

    @property
    def are_gone(self) -> bool:
        """Whether no actor is left, not even a draining one."""
        return not self._members and not self._leavers

    def resize(self, count: int, address: str | None, now: float) -> None:
        """Have ``count`` actors with workers for the trainer at this address; None: none can be started yet."""
        if self._is_shut_down():
            return
        if address is not None:
            self._release([member for member in self._members if member.address != address], now)
        self._release(self._surplus(count), now)
        if address is not None and now >= self._start_at:
            while len(self._members) < count:
                self._members.append(self._start(address, now))

    def _start(self, address: str, now: float) -> _Member:
        number = self._started_count
        self._started_count += 1
        handle = self._class.remote(self._settings(number, address))
        # The answer comes once the actor is placed.
        return _Member(number, address, handle, handle.node.remote(), now)

    def _surplus(self, count: int) -> list[_Member]:
        """The actors to release: first those without a place, then those alone on their node, so Ray can release it."""
        on_node = Counter(member.node for member in self._members)
        order = sorted(
            self._members, key=lambda member: (member.node is not None, on_node[member.node], -member.number)
        )
        return order[: max(0, len(order) - count)]

    def _release(self, members: list[_Member], now: float) -> None:
        for member in members:
            self._members.remove(member)
            if member.node is None:
                self._kill(member.handle)
            else:
                self._leavers.append(_Leaver(member.handle, member.handle.drain.remote(), now + self._drain_timeout))

    def look(self, now: float) -> None:
        """Note changes of the actors since the last look."""
        if self._is_shut_down():
            return
        for member in self._members:
            if member.answer is None and now >= member.look_at:
                member.answer = member.handle.node.remote()
        answered = self._answered([member.answer for member in self._members if member.answer is not None])
        for member in [member for member in self._members if member.answer in answered]:
            self._note_answer(member, now)
        answered = self._answered([leaver.answer for leaver in self._leavers])
        for leaver in [leaver for leaver in self._leavers if leaver.answer in answered or now >= leaver.kill_at]:
            self._leavers.remove(leaver)
            self._kill(leaver.handle)
        self._tell_of_waiting(now)

    def _answered(self, answers: list[Any]) -> set[Any]:
        return set(self._ray.wait(answers, num_returns=len(answers), timeout=0)[0]) if answers else set()

    def _note_answer(self, member: _Member, now: float) -> None:
        answer, member.answer, member.look_at = member.answer, None, now + _LOOK_SECONDS
        try:
            member.node = self._ray.get(answer)
        except self._ray.exceptions.ActorUnavailableError:
            member.node = None  # Ray starts it again
        except self._ray.exceptions.RayError as error:
            self._members.remove(member)
            self._kill(member.handle)
            self._start_at = now + self._pause
            logger.error("a worker on the Ray cluster is given up: %s; another in %g s", _reason(error), self._pause)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        else:
            self._pause = _LEAST_PAUSE_SECONDS

    def _tell_of_waiting(self, now: float) -> None:
        waiting = [member for member in self._members if member.node is None]
        if waiting and now - waiting[0].started_at >= _PATIENCE_SECONDS and self._telling.take(now):
            logger.warning(
                "the Ray cluster has had no place for %d of %d workers for a minute: `ray status` shows what is free; "
                "max_workers=… bounds what the fleet asks for",
                len(waiting),
                len(self._members),
            )

    def kill_all(self) -> None:
        """End all actors at once; other workers compute their leases."""
        if self._is_shut_down():
            return
        for handle in [member.handle for member in self._members] + [leaver.handle for leaver in self._leavers]:
            self._kill(handle)
        self._members.clear()
        self._leavers.clear()

    def _is_shut_down(self) -> bool:
        """Whether `ray.shutdown` was called: it has ended all actors. Most calls would start another, empty Ray."""
        if self._ray.is_initialized():
            return False
        self._members.clear()
        self._leavers.clear()
        return True

    def _kill(self, handle: Any) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(handle)


def _reason(error: Exception) -> str:
    """The reason at the end of Ray's message, after Ray's own tracebacks."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
