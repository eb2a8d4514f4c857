"""What makes a machine drain before its trainer ends: the end of its lifetime, a preemption notice, a signal.

    lifetime ────────► deadline ──┐
    notice ── NoticeWatch ────────┼──► reason to leave ──► Supervisor.drain ──► exit with `requeue_exit_code`
    SIGTERM, SIGINT ── Supervisor ┘

The exit code lets a batch script tell such an end from that of the training: after it the machine's place is to be
taken again (`scontrol requeue`), since a job that ends with 0 is complete for a batch system.
"""

from __future__ import annotations

import logging
import math
import random
from typing import TYPE_CHECKING

import zmq

if TYPE_CHECKING:
    from enqueuer_worker.supervisor.preemption_notice import NoticeWatch


class EarlyLeave:
    """A machine's own reasons to leave. Only the supervisor's thread uses it. Times in seconds.

    ``stagger`` shortens the lifetime by a random time up to it, so that machines which started together do not leave
    together. ``requeue_exit_code`` None: an early end has the exit code of any other.
    """

    def __init__(
        self,
        *,
        lifetime: float = math.inf,
        stagger: float = 0.0,
        preemption_notice: str = "",
        requeue_exit_code: int | None = None,
    ) -> None:
        self._lifetime = lifetime - random.uniform(0.0, stagger)
        self._target = preemption_notice
        self._requeue_exit_code = requeue_exit_code
        self._leave_at = math.inf
        self._watch: NoticeWatch | None = None
        self._poller = zmq.Poller()
        self._has_begun = False

    def start(self, poller: zmq.Poller, logger: logging.Logger, now: float) -> None:
        """Begin the lifetime and the watch; a notice ends a poll."""
        self._leave_at = now + self._lifetime
        if self._lifetime < math.inf:
            logger.info("this machine leaves in %.0f s, at the end of its lifetime", self._lifetime)
        if self._target:
            # A local supervisor has no use for an HTTP client, which takes a while to import.
            from enqueuer_worker.supervisor.preemption_notice import NoticeWatch

            self._watch = NoticeWatch(self._target, logger)
            self._poller = poller
            poller.register(self._watch.fileno(), zmq.POLLIN)

    def next_deadline(self) -> float:
        """When `reason` is to be called even if nothing happens."""
        return self._leave_at

    def reason(self, now: float) -> str:
        """Return why to leave now; '' if there is no reason to."""
        if self._watch is not None and self._watch.notice:
            return f"preemption notice: {self._watch.notice}"
        return "the lifetime is over" if now >= self._leave_at else ""

    def begin(self) -> None:
        """The machine leaves early, for one of these reasons or by a signal."""
        self._has_begun = True
        self.close()

    def close(self) -> None:
        """End the watch and the lifetime."""
        self._leave_at = math.inf
        watch, self._watch = self._watch, None
        if watch is not None:
            self._poller.unregister(watch.fileno())
            watch.close()

    def exit_status(self, status: int) -> int:
        """Return the exit status of an end that has had ``status`` so far.

        A drain that was cut short (1) leaves early all the same. A second signal (128 and more) wants no return.
        """
        return self._requeue_exit_code or status if self._has_begun and status <= 1 else status
