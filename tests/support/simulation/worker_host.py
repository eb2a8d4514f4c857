"""One simulated worker process: the real core, a compute loop that takes simulated time, and a link."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from enqueuer.protocol.messages import Epoch, ErrorRecord
from enqueuer_worker.core import events as ev
from enqueuer_worker.core.policy import Policy
from enqueuer_worker.core.worker_core import WorkerCore
from tests.support.simulation.clock import Alarm
from tests.support.simulation.invariants import check_worker
from tests.support.simulation.network import Link
from tests.support.simulation.world import KILLED, Payload, Verdict, World

_COALESCE_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Item:
    session: bytes
    epoch: Epoch
    lease: int
    index: int


class WorkerHost:
    """Crashes, hangs, pauses and slows down on demand. ``on_end`` is called with the exit code, once."""

    def __init__(
        self,
        world: World,
        name: str,
        supervisor: bytes,
        child_number: int,
        on_end: Callable[[WorkerHost, int], None],
        data: int = 0,
    ) -> None:
        self._data = data
        self.world = world
        self.name = name
        self.incarnation = world.new_id()
        identity = ev.Identity(name, self.incarnation, supervisor, child_number, "host", 1, "2.1.0", "0.1.0")
        policy = Policy(drain_timeout=60.0, hello_interval=world.scenario.heartbeat_interval)
        self.core = WorkerCore(identity, policy, world.clock.now)
        self.alive = True
        self.paused = False
        self.slowness = 1.0
        self.hanging = False
        self.timed_out = False
        self.link: Link | None = None
        self.running: Item | ev.Prepare | None = None
        self._on_end = on_end
        self._held_back: list[Callable[[], None]] = []
        self._tasks: deque[Item | ev.Prepare] = deque()
        self._finished: list[tuple[Item, float]] = []
        self._alarm = Alarm(world.clock, self.feed)
        world.clock.after(0.0, self.feed)

    @property
    def running_lease(self) -> int:
        return self.running.lease if isinstance(self.running, Item) else 0

    # ------------------------------------------------------------ the I/O thread

    def feed(self, *events: ev.Event) -> None:
        """Let the core handle these now, or when the process is awake again."""
        if not self.alive:
            return
        if self.paused:
            self._held_back.append(lambda: self.feed(*events))
            return
        now = self.world.clock.now
        for action in self.core.handle((ev.Tick(self.running_lease), *events), now):
            _PERFORM[type(action)](self, action)
        if self.alive:
            check_worker(self.core, now)
            self._alarm.set(self.core.next_deadline())

    def _open_control(self, _action: ev.OpenControl) -> None:
        self._close_link()
        self.link = self.world.network.connect(
            self.name,
            lambda message: self.feed(ev.Received(*message)),
            self.world.trainer.receive_control,
            self.world.trainer.receive_results,
            self._on_break,
        )

    def _on_break(self, link: Link) -> None:
        if link is self.link:
            self.feed(ev.LinkBroken())

    def _open_data(self, _action: ev.OpenData) -> None:
        """The data channel is part of the simulated link from the beginning."""

    def _close_link(self, _action: ev.CloseLink | None = None) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None

    def _send(self, action: ev.Send) -> None:
        if self.link is not None:
            self.link.control_up.send((action.session, action.message))

    def _send_results(self, action: ev.SendResults) -> None:
        if self.link is not None:
            self.link.data_up.send((self.incarnation, action))

    def _exit(self, action: ev.Exit) -> None:
        self.world.story.tell(self.name, "exits", action.code)
        self._end(int(action.code))

    def _note(self, action: ev.Note) -> None:
        self.world.story.tell(self.name, "notes", action.text)

    # ------------------------------------------------------------ the compute thread

    def _prepare(self, action: ev.Prepare) -> None:
        self._tasks.append(action)
        self._start_next()

    def _compute(self, action: ev.Compute) -> None:
        for lease, index in enumerate(action.indices, action.first_lease):
            self._tasks.append(Item(action.session, action.epoch, lease, index))
        self._start_next()

    def _cancel(self, action: ev.Cancel) -> None:
        if action.leases is None:
            self._tasks.clear()
        else:
            leases = action.leases
            self._tasks = deque(
                task for task in self._tasks if isinstance(task, ev.Prepare) or task.lease not in leases
            )

    def _start_next(self) -> None:
        if self.running is not None or not self._tasks or not self.alive:
            return
        task = self.running = self._tasks.popleft()
        seconds = self.slowness * self.world.scenario.item_seconds * self.world.rng.uniform(0.5, 1.5)
        if isinstance(task, Item):
            if self.world.scenario.batch_timeout is not None:
                self.world.clock.after(self.world.scenario.batch_timeout, lambda: self._check_overdue(task))
            verdict = self.world.verdict(task.epoch.epoch, task.index)
            if verdict is Verdict.KILLS:
                self.world.clock.after(seconds / 2, self.crash)
            if verdict in (Verdict.KILLS, Verdict.HANGS):
                return
        self.world.clock.after(seconds, lambda: self._when_awake(lambda: self._finish(task, seconds)))

    def _check_overdue(self, task: Item) -> None:
        """What the supervisor sees, whatever the process itself does."""
        if self.alive and self.running is task:
            self.world.timeouts[task.epoch.epoch, task.index] += 1
            self.world.story.tell(self.name, "IS TIMED OUT", f"computing lease {task.lease}")
            self.timed_out = True
            self._end(KILLED)

    def _when_awake(self, what: Callable[[], None]) -> None:
        if self.paused:
            self._held_back.append(what)
        elif self.alive:
            what()

    def _finish(self, task: Item | ev.Prepare, seconds: float) -> None:
        if self.hanging:
            return  # until somebody kills it
        self.running = None
        if isinstance(task, ev.Prepare):
            length = self.world.trainer.sequence_length(task.session, task.epoch.epoch)
            self.feed(ev.Loaded(task.session, task.epoch.epoch, task.epoch.generation, length, b""))
        elif self.world.tried(task.epoch.epoch, task.index) is Verdict.FAILS:
            error = ErrorRecord("builtins", "ValueError", "bad item", "Traceback ...")
            self.feed(ev.Failed(task.session, task.epoch.epoch, task.epoch.generation, task.lease, error))
        else:
            self._finished.append((task, seconds))
            if not self._tasks or sum(seconds for _, seconds in self._finished) >= _COALESCE_SECONDS:
                self._flush()
            else:
                self.world.clock.after(_COALESCE_SECONDS, lambda: self._when_awake(self._flush))
        self._start_next()

    def _flush(self) -> None:
        finished, self._finished = self._finished, []
        groups: dict[tuple[bytes, int, int], list[tuple[Item, float]]] = {}
        for item, seconds in finished:
            key = (item.session, item.epoch.epoch, item.epoch.generation)
            groups.setdefault(key, []).append((item, seconds))
        events = [
            ev.Computed(
                *key,
                leases=tuple(item.lease for item, _ in group),
                batches=tuple(Payload(*key, item.index, self._data) for item, _ in group),
                busy=sum(seconds for _, seconds in group),
            )
            for key, group in groups.items()
        ]
        if events:
            self.feed(*events)

    # ------------------------------------------------------------ what can happen to it

    def crash(self) -> None:
        if self.alive:
            if isinstance(self.running, Item):
                self.world.deaths[self.running.epoch.epoch, self.running.index] += 1
            self.world.story.tell(self.name, "CRASHES", f"computing lease {self.running_lease}")
            self._end(KILLED)

    def _end(self, exit_code: int) -> None:
        self.alive = False
        self._close_link()
        self._on_end(self, exit_code)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        held_back, self._held_back = self._held_back, []
        for what in held_back:
            what()

    def drain(self) -> None:
        self.feed(ev.DrainRequested())


_PERFORM: dict[type, Callable[[WorkerHost, Any], None]] = {
    ev.OpenControl: WorkerHost._open_control,
    ev.OpenData: WorkerHost._open_data,
    ev.CloseLink: WorkerHost._close_link,
    ev.Send: WorkerHost._send,
    ev.SendResults: WorkerHost._send_results,
    ev.Prepare: WorkerHost._prepare,
    ev.Compute: WorkerHost._compute,
    ev.Cancel: WorkerHost._cancel,
    ev.Exit: WorkerHost._exit,
    ev.Note: WorkerHost._note,
}
