"""A simulated supervisor: the parent that vouches for its children, reports their deaths and starts them again."""

from __future__ import annotations

from typing import Any

from enqueuer.protocol.messages import (
    NO_ID,
    PROTOCOL_VERSION,
    Children,
    ExitCode,
    Hello,
    Message,
    Role,
    Welcome,
    WhoAreYou,
    WorkerExited,
)
from tests.support.simulation.clock import Alarm
from tests.support.simulation.network import Link
from tests.support.simulation.worker_host import WorkerHost
from tests.support.simulation.world import KILLED, World

_RESTART_SECONDS = 0.2
_RETURN_SECONDS = 5.0
_RECONNECT_SECONDS = 0.1
_LISTEN_SECONDS = 30.0


class SupervisorHost:
    """Watches ``children_count`` workers; without a link (``supervised`` false) it restarts them and says nothing."""

    def __init__(self, world: World, name: str, children_count: int, *, reports: bool, data: int = 0) -> None:
        self.world = world
        self._data = data
        self.name = name
        self.id = world.new_id()
        self.children: list[WorkerHost] = []
        self.link: Link | None = None
        self._on = True
        self._starts_children = True
        self._reports = reports
        self._session = NO_ID
        self._unsent: list[WorkerExited] = []
        self._started_count = 0
        self._heard_at = 0.0
        self._alarm = Alarm(world.clock, self._beat)
        for _ in range(children_count):
            self.start_child()
        if reports:
            self._open()

    # ------------------------------------------------------------ children

    def start_child(self) -> None:
        number = self._started_count
        self._started_count += 1
        supervisor = self.id if self._reports else b""
        if self._starts_children:
            name = f"{self.name}.{number}"
            self.children.append(WorkerHost(self.world, name, supervisor, number, self._on_end, self._data))

    def lose_power(self) -> SupervisorHost:
        """The host and all on it vanish without a word; returns its successor."""
        self._alarm.set(float("inf"))
        peers: list[WorkerHost | SupervisorHost] = [*self.children, self]
        for peer in peers:
            if peer.link is not None:
                peer.link.break_off(seen_by_peer=False, seen_by_coordinator=False)
                peer.link = None
        for child in self.children:
            child.alive = False
        self._on = self._starts_children = False
        count = max(1, len(self.children))
        return SupervisorHost(self.world, f"{self.name}+", count, reports=self._reports, data=self._data)

    def drain(self) -> None:
        """All children leave, and no other is started."""
        self._starts_children = False
        for child in list(self.children):
            child.drain()

    def _on_end(self, child: WorkerHost, exit_code: int) -> None:
        self.children.remove(child)
        exited = WorkerExited(
            child.incarnation,
            child.core.identity.child_number,
            exit_code,
            child.running_lease,
            child.timed_out,
            "stack",
        )
        if self._reports:
            self._unsent.append(exited)
            self.world.clock.after(0.001, self._send_exits)
        # A killed or recycled worker is started again at once; for a drained one, its owner sends another later.
        at_once = exit_code in (KILLED, ExitCode.RECYCLE)
        self.world.clock.after(_RESTART_SECONDS if at_once else _RETURN_SECONDS, self.start_child)

    # ------------------------------------------------------------ its own link

    def _open(self) -> None:
        if not self._on:
            return
        self._session = NO_ID
        self._heard_at = self.world.clock.now
        if self.link is not None:
            self.link.close()
        trainer = self.world.trainer
        self.link = self.world.network.connect(
            self.name, self._receive, trainer.receive_control, trainer.receive_results, self._on_break
        )
        self._say_hello()

    def _on_break(self, link: Link) -> None:
        if link is self.link:
            self._session = NO_ID
            self.world.clock.after(_RECONNECT_SECONDS, self._open)

    def _receive(self, message: tuple[bytes, Message]) -> None:
        session, said = message
        self._heard_at = self.world.clock.now
        if isinstance(said, Welcome):
            self._session = session
            self._send_exits()
            self._alarm.set(self.world.clock.now + said.heartbeat_interval)
        elif isinstance(said, WhoAreYou):
            self._say_hello()

    def _say_hello(self) -> None:
        hello = Hello(
            PROTOCOL_VERSION, Role.SUPERVISOR, self.name, self.id, self.id, 0, "host", 1, "", "0.1.0", b"", (), 0
        )
        self._send(hello)
        self._alarm.set(self.world.clock.now + self.world.scenario.heartbeat_interval)

    def _beat(self) -> None:
        if self.world.clock.now - self._heard_at > _LISTEN_SECONDS:
            self._open()
        elif self._session == NO_ID:
            self._say_hello()
        else:
            awake = tuple(child.incarnation for child in self.children if not child.paused)
            self._send(Children(awake))
            self._alarm.set(self.world.clock.now + self.world.scenario.heartbeat_interval)

    def _send_exits(self) -> None:
        while self._unsent and self._session != NO_ID:
            self._send(self._unsent.pop(0))

    def _send(self, message: Any) -> None:
        if self.link is not None:
            self.link.control_up.send((self._session, message))
