"""Reasons for a machine to drain before its trainer ends: the end of its lifetime, a preemption notice, a signal.

    lifetime ────────► deadline ──┐
    notice ── NoticeWatch ────────┼──► reason to leave ──► Supervisor.drain ──► exit with `requeue_exit_code`
    SIGTERM, SIGINT ── Supervisor ┘

The exit code distinguishes an early end from the end of the training. After an early end a batch script asks for the
machine's place again (`scontrol requeue`); a batch system takes a job with exit code 0 for complete.
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

    The lifetime is shortened by a random time of at most ``stagger``, so machines with a common start do not leave
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
            # Imported here: it imports an HTTP client, which takes a while, and a local supervisor has no use for it.
            from enqueuer_worker.supervisor.preemption_notice import NoticeWatch

            self._watch = NoticeWatch(self._target, logger)
            self._poller = poller
            poller.register(self._watch.fileno(), zmq.POLLIN)

    def next_deadline(self) -> float:
        """When `reason` is to be called even if nothing happens."""
        return self._leave_at

    def reason(self, now: float) -> str:
        """Return the reason to leave now; '' if there is none."""
        if self._watch is not None and self._watch.result:
            return f"preemption notice: {self._watch.result}"
        return "the lifetime is over" if now >= self._leave_at else ""

    def begin(self) -> None:
        """Note that the machine leaves early, for one of these reasons or by a signal."""
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
        """Return the exit status for an end with the usual exit status ``status``.

        An early leave keeps its exit code if the drain was cut short (1), but not after a second signal (128 and more).
        """
        return self._requeue_exit_code or status if self._has_begun and status <= 1 else status
