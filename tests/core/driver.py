"""A coordinator and hand-made peers: what a test says happens, at the time it says; invariants after every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from enqueuer.core import events as ev
from enqueuer.core.actions import Action, Deliver, Report, Send
from enqueuer.core.settings import ChannelFacts
from enqueuer.core.worker import Worker, WorkerState
from enqueuer.protocol import messages as m
from tests.support.core_options import make_coordinator
from tests.support.simulation.invariants import CoordinatorInvariants

T = TypeVar("T")

SESSION = b"s" * 16
SUPERVISOR = b"p" * 16
CHANNELS = (ChannelFacts("local", "ipc:///x", local=True), ChannelFacts("remote", "tcp://*:5556", local=False))
ERROR = m.ErrorRecord("builtins", "ValueError", "bad item", "Traceback ...")


class Driver:
    """``now`` is moved by the test. Actions of the last step are in ``actions``, all of them in ``history``."""

    def __init__(self, **settings: Any) -> None:
        self.now = 0.0
        values: dict[str, Any] = {"max_queue_size": 4, **settings}
        self.core = make_coordinator(SESSION, values.pop("channels", CHANNELS), self.now, **values)
        self.actions: list[Action] = []
        self.history: list[Action] = []
        self.delivered: list[Any] = []
        self._invariants = CoordinatorInvariants(self.core, misbehaved=True)

    def step(self, *events: ev.Event) -> list[Action]:
        self.actions = self.core.handle(events, self.now)
        self.history += self.actions
        for action in self.actions:
            if isinstance(action, Deliver):
                self.delivered += action.outcomes
        self._invariants.check(self.now, thorough=True)
        return self.actions

    def wait(self, seconds: float, *, until_done: bool = True) -> None:
        """Let time pass, waking whenever the core wants it."""
        end = self.now + seconds
        while until_done and self.core.next_deadline() <= end:
            self.now = self.core.next_deadline()
            self.step()
        self.now = end
        self.step()

    # ------------------------------------------------------------ the trainer

    def open(self, length: int, epoch: int = 0, generation: int | None = None, **changes: Any) -> list[Action]:
        values: dict[str, Any] = {
            "epoch": epoch,
            "generation": epoch if generation is None else generation,
            "seed": 7,
            "order": range(length),
            "length": length,
            "digest": b"code",
            "state": None,
            "sequence": ["m:f", {}],
            "options": {},
            "gated": False,
            **changes,
        }
        return self.step(ev.EpochOpened(**values))

    def take(self, count: int) -> list[Action]:
        return self.step(ev.Taken(self.core.state.ledger.taken_total + count))

    # ------------------------------------------------------------ what came out

    def sent(self, kind: type[T], peer: Peer | None = None) -> list[T]:
        """Messages of this kind in the last step."""
        return messages_of(kind, self.actions, peer)

    def ever_sent(self, kind: type[T], peer: Peer | None = None) -> list[T]:
        return messages_of(kind, self.history, peer)

    def of(self, kind: type[T]) -> list[T]:
        """Actions of this kind in the last step."""
        return [action for action in self.actions if isinstance(action, kind)]

    def reports(self) -> str:
        return "\n".join(action.text for action in self.history if isinstance(action, Report))


def messages_of(kind: type[T], actions: list[Action], peer: Peer | None) -> list[T]:
    return [
        action.message
        for action in actions
        if isinstance(action, Send)
        and isinstance(action.message, kind)
        and (peer is None or action.route == peer.route)
    ]


class Peer:
    """A worker (or supervisor) as the coordinator sees it."""

    def __init__(self, driver: Driver, number: int, channel: str = "remote", **hello: Any) -> None:
        self.driver = driver
        self.name = f"w{number}"
        self.incarnation = bytes([number]) * 16
        self.route = ev.Route(channel, bytes([number]))
        self.key = ""
        self._hello = hello
        self._seq = 0

    @property
    def record(self) -> Worker:
        worker = self.driver.core.state.fleet.find(self.incarnation)
        assert worker is not None
        return worker

    def state(self) -> WorkerState:
        """What the coordinator takes it for. A method, so that a type checker expects it to change."""
        return self.record.state

    @property
    def leases(self) -> list[int]:
        """What the coordinator thinks that it holds."""
        return list(self.record.leases)

    def say(self, message: m.Message, session: bytes = SESSION) -> list[Action]:
        return self.driver.step(ev.ControlReceived(self.route, session, message, self.key))

    def hello(self, session: bytes = m.NO_ID, **changes: Any) -> list[Action]:
        values: dict[str, Any] = {
            "protocol": m.PROTOCOL_VERSION,
            "role": m.Role.WORKER,
            "worker_id": self.name,
            "incarnation": self.incarnation,
            "supervisor": SUPERVISOR,
            "child_number": 0,
            "host": "host",
            "pid": 1,
            "numpy_version": "2.1.3",
            "library_version": "0.1.0",
            "secret": b"",
            "held": (),
            "sent_seq": 0,
            **self._hello,
            **changes,
        }
        return self.say(m.Hello(**values), session)

    def ready(
        self, length: int, epoch: int = 0, generation: int | None = None, digest: bytes = b"code"
    ) -> list[Action]:
        return self.say(m.Ready(epoch, epoch if generation is None else generation, length, digest))

    def join(self, length: int, **ready: Any) -> Peer:
        self.hello()
        self.ready(length, **ready)
        return self

    def on_new_link(self) -> Peer:
        """The same worker from another connection."""
        self.route = ev.Route(self.route.channel, self.route.address + b"'")
        return self

    def answer(
        self,
        leases: Sequence[int] | None = None,
        epoch: int = 0,
        generation: int | None = None,
        seq: int | None = None,
        busy: float = 0.5,
        size: int = 100,
        taken_total: int = 0,
    ) -> list[Action]:
        """Batches for these leases (all that it holds), each with its lease as the payload; the trainer has taken so
        many meanwhile.
        """
        leases = self.leases if leases is None else leases
        if seq is None:
            self._seq += 1
            seq = self._seq
        generation = epoch if generation is None else generation
        nbytes = size * len(leases)
        return self.driver.step(
            ev.ResultsReceived(
                self.incarnation, epoch, generation, seq, busy, leases, [f"b{n}" for n in leases], nbytes, self.key
            ),
            ev.Taken(taken_total),
        )

    def fail(self, lease: int, epoch: int = 0, generation: int | None = None) -> list[Action]:
        return self.say(m.Failure(epoch, epoch if generation is None else generation, lease, ERROR))

    def heartbeat(
        self,
        held: Sequence[int] | None = None,
        highest_grant: int = 1_000_000,
        generation: int = 0,
        round_trip: float = 0.0,
        **used: Any,
    ) -> list[Action]:
        """By default it has seen all grants and holds what the coordinator thinks it does."""
        held = tuple(self.leases if held is None else held)
        now = self.driver.now
        return self.say(m.Heartbeat(held, highest_grant, generation, self._seq, 0, now, round_trip, **used))


def supervisor(driver: Driver, channel: str = "remote", name: bytes = SUPERVISOR) -> Peer:
    """One that has said Hello."""
    peer = Peer(driver, 200, channel)
    peer.hello(role=m.Role.SUPERVISOR, supervisor=name, numpy_version="")
    return peer


def serving(length: int = 10, workers: int = 1, **settings: Any) -> tuple[Driver, list[Peer]]:
    """An epoch of this length, and workers that serve."""
    driver = Driver(**settings)
    driver.open(length)
    return driver, [Peer(driver, number).join(length) for number in range(1, workers + 1)]
