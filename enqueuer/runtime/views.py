"""The views of a session: statistics, the verdict, the health check, observers, metrics, the report.

    stats(), verdict ──────────────────────┐
    health check, observers, metrics ──────┼──► Views ──► core, ready queue, receiver (in the I/O thread)
    a turn: minute line, verdict, report ──┘

The I/O thread alone looks at the core while it runs. So an answer to any of these proves that its loop turns.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent import futures

from enqueuer.core.actions import Show
from enqueuer.core.coordinator import Coordinator
from enqueuer.core.events import Route
from enqueuer.core.fault_history import Fault
from enqueuer.core.verdict import Verdict
from enqueuer.monitoring.health import DIRECTORY_VARIABLE, HealthSocket, Status, open_health_socket
from enqueuer.monitoring.interpreter import InterpreterProbe
from enqueuer.monitoring.metrics import MetricsServer
from enqueuer.monitoring.minute_line import MinuteLine
from enqueuer.monitoring.run_page.report import Report
from enqueuer.monitoring.stats import Stats
from enqueuer.monitoring.verdict_watch import VerdictWatch
from enqueuer.protocol.observation import Snapshot
from enqueuer.runtime.counters import read_counters
from enqueuer.runtime.io_loop import IoLoop
from enqueuer.runtime.observer_sockets import OBSERVERS, ObserverSockets, open_observer_sockets
from enqueuer.runtime.observing import make_snapshot
from enqueuer.runtime.ready_queue import ReadyQueue
from enqueuer.runtime.stats import take_snapshot

# A caller waits no longer than this for the I/O thread.
_CALL_SECONDS = 5.0


class Views:
    """Shows a session until ``stopped`` is set, and after it. ``report`` is None where none is wanted."""

    def __init__(
        self,
        coordinator: Coordinator,
        ready: ReadyQueue,
        io: IoLoop,
        stopped: threading.Event,
        report: Report | None,
    ) -> None:
        now = time.monotonic()
        self._coordinator = coordinator
        self._ready = ready
        self._io = io
        self._stopped = stopped
        self._report = report
        self._health: HealthSocket | None = None
        self._observers: ObserverSockets | None = None
        self._metrics: MetricsServer | None = None
        self._last_stats = Stats()
        self._minute_line = MinuteLine(self._snapshot, now)
        self._interpreter = InterpreterProbe(now)
        self._verdicts = VerdictWatch(
            lambda: read_counters(coordinator.state, ready, io.receiver, self._interpreter), now
        )

    # ------------------------------------------------------------ life

    def open(self) -> None:
        """Open the observers' socket, before the I/O thread runs."""
        self._observers = open_observer_sockets(self._io.watch, self._io.post, self._coordinator.ignores)
        if self._observers is not None:
            self._io.add_sender(OBSERVERS, self._observers.send)

    def begin(self, metrics_port: int | None) -> None:
        """Record and answer from now on: the I/O thread runs."""
        if self._report is not None:
            self._report.begin(self._show_page, self._faults_after)
        self._health = open_health_socket(os.environ.get(DIRECTORY_VARIABLE))
        if self._health is not None:
            self._io.call(self._answer_health)
        if self._observers is not None:
            self._observers.begin()
        if metrics_port is not None:
            self._metrics = MetricsServer(self._scrape, metrics_port)

    def look(self, now: float) -> None:
        """Write the minute line, judge, and record, each when it is due. Called in each turn of the I/O thread."""
        self._minute_line.look(now)
        self._interpreter.look(now, is_waiting=self._ready.times.is_waiting)
        self._verdicts.look(now)
        if self._report is not None:
            self._report.look(now)

    def end(self, timeout: float) -> None:
        """Serve no more metrics, and record the end within ``timeout`` seconds: the workers are about to leave."""
        if self._metrics is not None:
            self._metrics.close()
        if self._report is not None and not self._io.is_current:
            with contextlib.suppress(futures.CancelledError, futures.TimeoutError):
                self._io.call(self._report.record_end).result(min(_CALL_SECONDS, max(0.0, timeout)))

    def close(self) -> None:
        """Close the sockets. The I/O thread has ended, or is another process's."""
        for closing in (self._health, self._observers):
            if closing is not None:
                closing.close()

    def write_report(self, failure: str) -> None:
        """Write the report, if one is wanted; ``failure`` is the error that ended the session, or ''."""
        if self._report is not None:
            self._report.write(failure)

    def disarm(self) -> None:
        """In a forked child: leave everything to the parent."""
        self.close()
        if self._metrics is not None:
            self._metrics.disarm()

    # ------------------------------------------------------------ the views

    def stats(self) -> Stats:
        """A snapshot, taken in the I/O thread, or here after its end. While that thread hangs: the last snapshot."""
        try:
            self._last_stats = self._io.call(self._snapshot).result(_CALL_SECONDS)
        except futures.CancelledError:
            # The I/O thread has ended, or closes its sockets: it does not change the core any more.
            self._last_stats = self._snapshot()
        except futures.TimeoutError:  # not the built-in one before 3.11
            pass  # the I/O thread is kept from running, and it alone may look at the core
        return self._last_stats

    @property
    def verdict(self) -> Verdict:
        """The verdict on what holds the training back now, at most a second old."""
        return self._verdicts.verdict

    def begin_probe(self) -> None:
        """Judge nothing until `end_probe`: the trainer takes batches from memory."""
        self._in_io_thread(lambda: self._verdicts.pause(time.monotonic()))

    def end_probe(self, rate: float | None) -> None:
        """Judge again, and by this rate, in batches a second that the trainer takes from memory; None: not measured."""
        self._in_io_thread(lambda: self._verdicts.resume(time.monotonic(), rate))

    def _in_io_thread(self, function: Callable[[], None]) -> None:
        """Have the I/O thread call this, and wait for it, unless that thread hangs, has ended, or is this one."""
        called = self._io.call(function)
        if not self._io.is_current:  # a probe's loop that was left ends wherever its generator is collected
            with contextlib.suppress(futures.CancelledError, futures.TimeoutError):
                called.result(_CALL_SECONDS)

    def show(self, show: Show) -> Snapshot:
        """The Snapshot for an observer."""
        stats = self._snapshot(with_workers=False)
        return make_snapshot(self._coordinator.state, stats, self._verdicts, show)

    def _snapshot(self, *, with_workers: bool = True) -> Stats:
        return take_snapshot(
            self._coordinator.state,
            self._ready,
            self._io.receiver,
            running=not self._stopped.is_set(),
            shared_bytes=self._io.shared_bytes,
            verdicts=self._verdicts,
            with_workers=with_workers,
        )

    def _show_page(self, first_row: int, rows_count: int, after_event: int) -> Snapshot:
        """The Snapshot for an observer in this process: these workers, and the events after a number."""
        return self.show(Show(Route("", b""), first_row, rows_count, after_event, 0.0))

    def _faults_after(self, number: int) -> list[Fault]:
        return self._coordinator.state.faults.after(number)

    def _scrape(self) -> Snapshot | None:
        """The Snapshot for a scrape of the metrics; None at the session's end, and while the I/O thread hangs."""
        last_event = self._coordinator.state.history.count
        try:
            return self._io.call(lambda: self._show_page(0, 0, last_event)).result(_CALL_SECONDS)
        except (futures.CancelledError, futures.TimeoutError):
            return None

    def _answer_health(self) -> None:
        """Answer a health check, in the I/O thread."""
        assert self._health is not None
        self._health.answer(self._status)
        self._io.watch(self._health.fileno(), self._answer_health)

    def _status(self) -> Status:
        workers = self._coordinator.slots_count
        epoch, _, _, _ = self._ready.progress
        taken = self._ready.taken_total
        return {"role": "trainer", "workers": workers, "epoch": epoch, "taken": taken, "ready": workers > 0}
