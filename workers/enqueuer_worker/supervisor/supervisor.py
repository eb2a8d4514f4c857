"""The parent of N worker processes: starts them, starts them again, reports their deaths, ends them.

It runs no user code and imports no NumPy: whatever a Sequence does, this process lives and answers. Everything happens
in one thread, which polls its link to the coordinator, the signals and, for a local supervisor, its trainer's commands.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import signal
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import zmq

from enqueuer.memory.shared_lock import make_lock_file
from enqueuer.monitoring.health import HealthSocket, Status
from enqueuer.protocol.messages import ExitCode, WorkerExited
from enqueuer_worker.settings import Settings
from enqueuer_worker.supervisor.children import Child
from enqueuer_worker.supervisor.coordinator_link import SupervisorLink
from enqueuer_worker.supervisor.restarts import RestartBackoff
from enqueuer_worker.supervisor.signals import SignalPipe
from enqueuer_worker.supervisor.time_limit import TimeLimit

# What a draining child has beyond its own deadline before it is killed.
_DRAIN_GRACE_SECONDS = 10.0
# How often children are looked at where no SIGCHLD reaches us.
_BLIND_POLL_SECONDS = 0.1
_LEAST_RETRY_SECONDS = 0.5
# For those who were killed; one that hangs in the kernel must not keep us.
_REAP_SECONDS = 2.0
_FAILED = 1


@dataclasses.dataclass(slots=True)
class _Slot:
    """The place of one worker: the process that fills it now, or when the next one is to be started."""

    number: int
    backoff: RestartBackoff
    child: Child | None = None
    start_at: float = -math.inf


class Supervisor:
    """Runs until its workers have drained, or were killed, or (``once``) have served one session."""

    # What makes it drain, and stop at the second time.
    end_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM, signal.SIGINT)

    def __init__(
        self, settings: Settings, processes: int, logger: logging.Logger, health: HealthSocket | None = None
    ) -> None:
        self.settings = dataclasses.replace(settings, lock_fd=make_lock_file())
        self._health = health
        self.exit_status = 0
        self._logger = logger
        self._slots: dict[int, _Slot] = {}
        # Slots given up, whose process has yet to end.
        self._leaving: list[Child] = []
        self._poller = zmq.Poller()
        self._link = SupervisorLink(settings, self._poller, logger, time.monotonic())
        self._time_limit = TimeLimit(logger)
        self._draining = False
        self._kill_at = math.inf
        self._signals = SignalPipe((signal.SIGCHLD, *self.end_signals))
        self.set_processes(processes)

    def set_processes(self, count: int) -> None:
        """How many workers there are to be; those beyond leave as soon as they hold no leases."""
        for number in range(count):
            if number not in self._slots:
                self._slots[number] = _Slot(number, RestartBackoff(self.settings.max_reconnect_interval))
        for number in [number for number in self._slots if number >= count]:
            child = self._slots.pop(number).child
            if child is not None:
                child.send({"drain": True})
                self._leaving.append(child)

    def next_session(self, connect: str, secret: str, processes: int) -> None:
        """Go over to another session with all children that are there, and have as many as it wants."""
        self.settings = dataclasses.replace(self.settings, connect=connect, secret=secret)
        self.set_processes(processes)
        for slot in self._slots.values():
            # Failures of the last session say nothing about this one.
            slot.backoff = RestartBackoff(self.settings.max_reconnect_interval)
            slot.start_at = -math.inf
            if slot.child is not None:
                slot.child.send({"connect": connect, "secret": secret})
        self._link.change_session(self.settings, time.monotonic())

    def run(self) -> int:
        """Serve; returns the exit status for the process."""
        with self._signals, self._closing():
            self._poller.register(self._signals.fd, zmq.POLLIN)
            if self._health is not None:
                self._poller.register(self._health.fileno(), zmq.POLLIN)
            count = len(self._slots)
            self._logger.info("%d worker%s for %s", count, "" if count == 1 else "s", self.settings.connect)
            self._start_due(time.monotonic())
            while self._slots or self._leaving:
                self.step(dict(self._poller.poll(self._timeout_ms())))
        return self.exit_status

    def step(self, ready: dict[Any, int]) -> None:
        """Handle what the poller found, then what is due."""
        now = time.monotonic()
        for number in self._signals.read() if self._signals.fd in ready else ():
            if number in self.end_signals:
                self._on_end_wanted(signal.Signals(number), now)
        if self._health is not None and self._health.fileno() in ready:
            self._health.answer(self._status)
        self._reap(now)
        self._link.handle(ready, self._alive, now)
        self._time_limit.enforce(self._children(), self._link.batch_timeout, now)
        self._start_due(now)
        if now >= self._kill_at:
            self._logger.error("workers did not end %g s after their drain deadline: killed", _DRAIN_GRACE_SECONDS)
            self.kill_all()
            self.exit_status = _FAILED

    def drain(self, now: float) -> None:
        """Have every worker finish its leases and leave; those that cannot are killed some time after the deadline."""
        self._draining = True
        self._kill_at = now + self.settings.drain_timeout + _DRAIN_GRACE_SECONDS
        for slot in list(self._slots.values()):
            if slot.child is None:
                del self._slots[slot.number]
            else:
                slot.child.send({"drain": True})

    def ask_to_leave(self) -> None:
        """Have every worker end at once, but in order: it closes its Sequence and runs its exit handlers."""
        self._draining = True
        for child in self._children():
            child.send({"leave": True})

    def kill_all(self) -> None:
        """SIGKILL every child; none is started again."""
        self._draining = True
        self._kill_at = math.inf
        for child in self._children():
            child.kill()

    def kill_and_reap(self) -> None:
        """SIGKILL every child and wait for its end, so that not even a zombie is left to a pid 1 that collects none."""
        self.kill_all()
        deadline = time.monotonic() + _REAP_SECONDS
        for child in self._children():
            child.wait(max(0.0, deadline - time.monotonic()))

    # ------------------------------------------------------------ children

    def _children(self) -> list[Child]:
        return [slot.child for slot in self._slots.values() if slot.child is not None] + self._leaving

    def _alive(self) -> Iterator[bytes]:
        return (child.incarnation for child in self._children() if child.is_alive_and_not_stopped())

    def _status(self) -> Status:
        """For `enqueuer health`."""
        return {
            "role": "worker",
            "name": self.settings.name,
            "trainer": self.settings.connect,
            "processes": len(list(self._alive())),
            "draining": self._draining,
            "ready": self._link.in_session,
        }

    def _start_due(self, now: float) -> None:
        for slot in self._slots.values():
            if slot.child is not None or now < slot.start_at:
                continue
            try:
                slot.child = Child(self.settings, slot.number, now)
            except OSError as error:
                # Out of processes, memory or descriptors: that may pass.
                self._logger.error("worker %d cannot be started: %s", slot.number, error)
                slot.start_at = now + max(slot.backoff.delay(_FAILED, 0.0), _LEAST_RETRY_SECONDS)
            else:
                self._logger.debug("worker %d started as process %d", slot.number, slot.child.pid)

    def _reap(self, now: float) -> None:
        for leaver in [child for child in self._leaving if child.exit_code() is not None]:
            self._leaving.remove(leaver)
            self._report(leaver)
        for slot in list(self._slots.values()):
            child, code = slot.child, None if slot.child is None else slot.child.exit_code()
            if child is None or code is None:
                continue
            slot.child = None
            at_work = child.running().task != 0
            self._report(child)
            if self._draining or (self.settings.once and code in (ExitCode.DONE, ExitCode.REFUSED)):
                del self._slots[slot.number]
                if code == ExitCode.REFUSED:
                    self.exit_status = _FAILED
            else:
                self._plan_restart(slot, code, slot.backoff.delay(code, now - child.started_at, at_work=at_work), now)

    def _report(self, child: Child) -> None:
        """Tell the coordinator at once, so that it need not wait for silence to become a time-out."""
        code = child.exit_code()
        assert code is not None
        verdict = self._time_limit.verdict(child)
        self._link.report_exit(
            WorkerExited(child.incarnation, child.number, code, verdict.lease, verdict.timed_out, verdict.stack)
        )
        child.close()

    def _plan_restart(self, slot: _Slot, code: int, delay: float, now: float) -> None:
        slot.start_at = now + delay
        level = logging.INFO if code == ExitCode.RECYCLE else logging.WARNING
        when = f"in {delay:g} s" if delay else "at once"
        self._logger.log(level, "worker %d %s; starting it again %s", slot.number, describe_exit(code), when)

    # ------------------------------------------------------------ the end

    def _on_end_wanted(self, number: signal.Signals, now: float) -> None:
        if self._draining:
            self._logger.warning("%s again: stopping at once", number.name)
            self.kill_all()
            self.exit_status = 128 + number
            return
        self._logger.info(
            "%s: draining, for %g s at most; the same again stops at once", number.name, self.settings.drain_timeout
        )
        self.drain(now)

    @contextlib.contextmanager
    def _closing(self) -> Iterator[None]:
        """Whatever ends the loop, no process stays behind."""
        try:
            yield
        finally:
            self.kill_and_reap()
            if self.settings.lock_fd is not None:
                os.close(self.settings.lock_fd)
            self._link.close()
            if self._health is not None:
                self._health.close()
            self._logger.info("all workers have left")

    def _timeout_ms(self) -> int | None:
        deadlines = [self._link.next_deadline(), self._time_limit.next_deadline(), self._kill_at]
        due = min([*deadlines, *self._restart_times()])
        if not self._signals.works:
            due = min(due, time.monotonic() + _BLIND_POLL_SECONDS)
        return None if due == math.inf else max(0, math.ceil((due - time.monotonic()) * 1000))

    def _restart_times(self) -> list[float]:
        return [slot.start_at for slot in self._slots.values() if slot.child is None]


def describe_exit(code: int) -> str:
    """An exit code in words."""
    if code == ExitCode.RECYCLE:
        return "has computed its share"
    if code == ExitCode.REFUSED:
        return "was refused, or could not build the Sequence"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
