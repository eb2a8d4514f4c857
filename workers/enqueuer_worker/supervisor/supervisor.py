"""The supervisor: the parent of N worker processes. It starts, restarts and ends them, and reports their deaths.

    coordinator ◄──► SupervisorLink ─┐                ┌─ Child ◄──► worker process
    signals, health, (trainer) ──────┼─ Supervisor ── slots
    batch_timeout ───── TimeLimit ───┤                └─ RestartBackoff
    lifetime, notice ── EarlyLeave ──┘

It runs no user code and imports no NumPy, so no Sequence can stop it. It has one thread, which polls the link to the
coordinator, the signals and, in a local supervisor, the trainer's commands. Only what blocks runs beside it: a look for
the reason why no trainer answers (`diagnosis`), and for a preemption notice.
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
from enqueuer.protocol.messages import ExitCode, WorkerExited, describe_exit
from enqueuer.transport.sockets import poll_timeout_ms
from enqueuer_worker.repeats import RepeatedNotes
from enqueuer_worker.settings import Settings
from enqueuer_worker.supervisor.children import Child
from enqueuer_worker.supervisor.coordinator_link import SupervisorLink
from enqueuer_worker.supervisor.early_leave import EarlyLeave
from enqueuer_worker.supervisor.minute_line import MinuteLine
from enqueuer_worker.supervisor.restarts import RestartBackoff
from enqueuer_worker.supervisor.signals import OneSigterm, SignalPipe
from enqueuer_worker.supervisor.time_limit import TimeLimit

# How long after its own deadline a draining child is killed.
_DRAIN_GRACE_SECONDS = 10.0
# How often the children are checked where no SIGCHLD arrives.
_BLIND_POLL_SECONDS = 0.1
_LEAST_RETRY_SECONDS = 0.5
# How long processes are started before signals and commands get their turn.
_STARTING_SECONDS = 0.2
# How long to wait for killed children; one that hangs in the kernel must not hold up the exit.
_REAP_SECONDS = 2.0
_FAILED = 1
# The notes tell of a rejection, with its reason and at growing intervals.
_RESTART_LEVELS = {int(ExitCode.RECYCLE): logging.INFO, int(ExitCode.REFUSED): logging.DEBUG}


@dataclasses.dataclass(slots=True)
class _Slot:
    """One worker's slot: its process now, or the time at which the next one starts."""

    number: int
    backoff: RestartBackoff
    child: Child | None = None
    start_at: float = -math.inf


class Supervisor:
    """Runs until its workers have drained, or were killed, or (``once``) have served one session."""

    # The first of them starts the drain, a second one stops at once.
    end_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM, signal.SIGINT)
    # The level of the line about a worker that died.
    death_level: ClassVar[int] = logging.WARNING

    def __init__(
        self,
        settings: Settings,
        processes: int,
        logger: logging.Logger,
        health: HealthSocket | None = None,
        early_leave: EarlyLeave | None = None,
    ) -> None:
        self.settings = dataclasses.replace(settings, lock_fd=make_lock_file())
        self._health = health
        self.exit_status = 0
        self._logger = logger
        self._slots: dict[int, _Slot] = {}
        # The processes of former slots, until they end.
        self._leaving: list[Child] = []
        self._poller = zmq.Poller()
        self._notes = RepeatedNotes(logger)
        self._link = SupervisorLink(settings, self._poller, logger, self._notes, time.monotonic())
        self._time_limit = TimeLimit(logger)
        self._minute_line = MinuteLine(logger)
        self._early_leave = early_leave or EarlyLeave()
        self._draining = self._signalled = False
        self._one_sigterm = OneSigterm()
        self._kill_at = math.inf
        self._signals = SignalPipe((signal.SIGCHLD, *self.end_signals))
        self.set_processes(processes)

    def set_processes(self, count: int) -> None:
        """Have ``count`` workers; surplus ones leave as soon as they hold no leases."""
        for number in range(count):
            if number not in self._slots:
                self._slots[number] = _Slot(number, RestartBackoff(self.settings.max_reconnect_interval))
        for number in [number for number in self._slots if number >= count]:
            child = self._slots.pop(number).child
            if child is not None:
                child.send({"drain": True})
                self._leaving.append(child)

    def next_session(self, connect: str, secret: str, processes: int) -> None:
        """Move on to another session with the present children, and have as many of them as it wants."""
        self.settings = dataclasses.replace(self.settings, connect=connect, secret=secret)
        self.set_processes(processes)
        for slot in self._slots.values():
            # Failures in the last session do not count in this one.
            slot.backoff = RestartBackoff(self.settings.max_reconnect_interval)
            slot.start_at = -math.inf
            if slot.child is not None:
                slot.child.send({"connect": connect, "secret": secret})
        self._link.change_session(self.settings, time.monotonic())

    def run(self) -> int:
        """Serve until the workers have left; returns the exit status for the process."""
        with self._signals, self._closing():
            self._poller.register(self._signals.fd, zmq.POLLIN)
            if self._health is not None:
                self._poller.register(self._health.fileno(), zmq.POLLIN)
            count = len(self._slots)
            self._logger.info(
                "%d worker%s for the trainer at %s", count, "" if count == 1 else "s", self.settings.connect
            )
            self._early_leave.start(self._poller, self._logger, time.monotonic())
            self._start_due(time.monotonic())
            while self._slots or self._leaving:
                self.step(dict(self._poller.poll(poll_timeout_ms(self._next_deadline(), time.monotonic()))))
        return self._early_leave.exit_status(self.exit_status)

    def step(self, ready: dict[Any, int]) -> None:
        """Handle the events of a poll, then the deadlines."""
        now = time.monotonic()
        for number in self._signals.read() if self._signals.fd in ready else ():
            if number in self.end_signals and not self._one_sigterm.is_repeated(number, now):
                self._on_end_signal(signal.Signals(number), now)
        if self._health is not None and self._health.fileno() in ready:
            self._health.answer(self._status)
        if not self._draining and (reason := self._early_leave.reason(now)):
            self._drain_early(reason, now)
        self._reap(now)
        self._link.handle(ready, self._alive, now)
        if self.settings.once and self._link.is_refused_for_good and not self._draining:
            self.exit_status = _FAILED
            self.drain(now)
        if self.settings.once and self._link.has_served and not self._draining:
            self.drain(now)  # a worker that has missed the end, or is just starting, leaves as well
        self._time_limit.enforce(self._children(), self._link.batch_timeout, now)
        self._start_due(now)
        self._minute_line.look(self._children(), now, in_session=self._link.in_session)
        if now >= self._kill_at:
            self._logger.error("workers did not end %g s after their drain deadline: killed", _DRAIN_GRACE_SECONDS)
            self.kill_all()
            self.exit_status = _FAILED

    def drain(self, now: float) -> None:
        """Have every worker finish its leases and leave; those that do not are killed some time after the deadline."""
        self._start_no_more()
        self._kill_at = now + self.settings.drain_timeout + _DRAIN_GRACE_SECONDS
        for slot in self._slots.values():
            if slot.child is not None:
                slot.child.send({"drain": True})

    def ask_to_leave(self) -> None:
        """Have every worker end now and cleanly: it closes its Sequence and runs its exit handlers."""
        self._start_no_more()
        for child in self._children():
            child.send({"leave": True})

    def kill_all(self) -> None:
        """Send SIGKILL to every child; none is started again."""
        self._start_no_more()
        self._kill_at = math.inf
        for child in self._children():
            child.kill()

    def kill_and_reap(self) -> None:
        """Kill every child, wait for its end, and end the programs that it started.

        This leaves no zombies: not every pid 1 reaps them.
        """
        self.kill_all()
        deadline = time.monotonic() + _REAP_SECONDS
        for child in self._children():
            child.wait(max(0.0, deadline - time.monotonic()))
            child.end_programs()

    # ------------------------------------------------------------ children

    def _children(self) -> list[Child]:
        return [slot.child for slot in self._slots.values() if slot.child is not None] + self._leaving

    def _alive(self) -> Iterator[bytes]:
        return (child.incarnation for child in self._children() if child.is_alive_and_not_stopped())

    def _status(self) -> Status:
        """The answer to `enqueuer health`."""
        return {
            "role": "worker",
            "name": self.settings.name,
            "trainer": self.settings.connect,
            "processes": len(list(self._alive())),
            "draining": self._draining,
            "ready": self._link.in_session,
        }

    def _start_no_more(self) -> None:
        self._draining = True
        for number in [number for number, slot in self._slots.items() if slot.child is None]:
            del self._slots[number]

    def _start_due(self, now: float) -> None:
        """Start processes that are due, for `_STARTING_SECONDS`: signals and commands must not wait for hundreds."""
        began = time.monotonic()
        for slot in self._slots.values():
            if slot.child is not None or now < slot.start_at:
                continue
            try:
                slot.child = Child(self.settings, slot.number, now)
            except OSError as error:
                # The system is out of processes, memory or descriptors, perhaps only for now.
                self._logger.error("worker %d cannot be started: %s", slot.number, error)
                slot.start_at = now + max(slot.backoff.delay(_FAILED, 0.0), _LEAST_RETRY_SECONDS)
            else:
                self._logger.debug("worker %d started as process %d", slot.number, slot.child.pid)
            if time.monotonic() - began > _STARTING_SECONDS:
                return

    def _reap(self, now: float) -> None:
        for child in [child for child in self._leaving if child.exit_code() is not None]:
            self._leaving.remove(child)
            self._report(child)
        for slot in list(self._slots.values()):
            if slot.child is None or (code := slot.child.exit_code()) is None:
                continue
            child, slot.child = slot.child, None
            at_work = child.running().task != 0
            if self.settings.reconnects and (reason := child.rejection()):
                self._notes.note_rejection(reason, now)
            self._report(child)
            if self._draining or (self.settings.once and code in (ExitCode.DONE, ExitCode.REFUSED)):
                del self._slots[slot.number]
                if code == ExitCode.REFUSED:
                    self.exit_status = _FAILED
            else:
                delay = slot.backoff.delay(code, now - child.started_at, at_work=at_work)
                slot.start_at = now + delay
                level = _RESTART_LEVELS.get(code, self.death_level)
                end, when = describe_exit(code, at_work=at_work), f"in {delay:g} s" if delay else "at once"
                self._logger.log(level, "worker %d %s; starting it again %s", slot.number, end, when)

    def _report(self, child: Child) -> None:
        """Report a child's end to the coordinator, which would otherwise wait for a time-out."""
        code = child.exit_code()
        assert code is not None
        last = self._time_limit.last_item(child)
        self._link.report_exit(
            WorkerExited(child.incarnation, child.number, code, last.lease, last.timed_out, last.stack)
        )
        child.end_programs()
        child.close()

    # ------------------------------------------------------------ the end

    def _on_end_signal(self, number: signal.Signals, now: float) -> None:
        if self._signalled:
            self._logger.warning("%s again: stopping at once", number.name)
            self.kill_all()
            self.exit_status = 128 + number
        elif self._draining:
            # An engine sends its signal as well after a notice, or at the end of the walltime.
            self._logger.info("%s: draining already; the same again stops at once", number.name)
        else:
            self._drain_early(number.name, now)
        self._signalled = True

    def _drain_early(self, reason: str, now: float) -> None:
        self._logger.info(
            "%s: draining, for %g s at most; a second signal stops at once", reason, self.settings.drain_timeout
        )
        self._early_leave.begin()
        self.drain(now)

    @contextlib.contextmanager
    def _closing(self) -> Iterator[None]:
        """Leave no process behind, not even after an error in the loop."""
        try:
            yield
        finally:
            self.kill_and_reap()
            if self.settings.lock_fd is not None:
                os.close(self.settings.lock_fd)
            self._early_leave.close()
            self._link.close()
            if self._health is not None:
                self._health.close()
            self._logger.info("all workers have left")

    def _next_deadline(self) -> float:
        now = time.monotonic()
        deadlines = [self._link.next_deadline(now), self._time_limit.next_deadline(), self._early_leave.next_deadline()]
        deadlines += [self._kill_at, *(slot.start_at for slot in self._slots.values() if slot.child is None)]
        if not self._signals.works:
            deadlines.append(now + _BLIND_POLL_SECONDS)
        return min(deadlines)
