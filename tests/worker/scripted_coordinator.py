"""A coordinator that a test scripts: ROUTER and PULL. By itself it only answers heartbeats."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import zmq

from enqueuer.protocol.batch import Trust
from enqueuer.protocol.control_codec import decode_control, encode_control
from enqueuer.protocol.messages import (
    NO_ID,
    Epoch,
    Grant,
    Heartbeat,
    HeartbeatReply,
    Hello,
    Message,
    Ready,
    ResultsHeader,
    Role,
    Welcome,
)
from enqueuer.transport.sockets import CoordinatorSockets, new_context
from tests.support.results import decode_results

DEADLINE = 30.0

MessageType = TypeVar("MessageType")


class ScriptedCoordinator:
    """Every wait has a deadline; a wait in vain fails with the last messages heard."""

    def __init__(self, address: str = "tcp://127.0.0.1:*", trust: Trust = Trust.REMOTE, **welcome: Any) -> None:
        self.session = os.urandom(16)
        self.heard: list[tuple[bytes, bytes, Message]] = []
        self.acknowledge = True
        self.received: list[tuple[ResultsHeader, list[Any]]] = []
        self._taken = 0
        self._taken_results = 0
        self._trust = trust
        self._context = new_context()
        data = address.replace("/control", "/data") if address.startswith("ipc") else "tcp://127.0.0.1:*"
        self._sockets = CoordinatorSockets(self._context, address, data)
        self.address = self._sockets.control_endpoint
        endpoint = self._sockets.data_endpoint.replace("127.0.0.1", "*")
        self.welcome = Welcome(endpoint, 0.1, 30.0, 0, welcome.pop("sequence", None), welcome)

    def __enter__(self) -> ScriptedCoordinator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._sockets.close(0.2)
        self._context.term()

    # ------------------------------------------------------------ saying

    def send(self, route: bytes, *messages: Message, session: bytes | None = None) -> None:
        for message in messages:
            frame = encode_control(self.session if session is None else session, message)
            self._sockets.router.send_multipart([route, frame])

    def let_in(self, role: Role = Role.WORKER, count: int = 1) -> list[bytes]:
        """Welcome the next ``count`` peers that say Hello in this role; returns their routes."""
        routes: list[bytes] = []
        while len(routes) < count:
            route, _ = self.expect(Hello, lambda hello: hello.role is role)
            if route not in routes:
                routes.append(route)
                self.send(route, self.welcome)
        return routes

    def serve(self, *, state: Any = None, epoch: int = 0) -> bytes:
        """Let one worker in and have it build its Sequence; returns its route."""
        (route,) = self.let_in()
        self.send(route, Epoch(epoch, 0, 7, state))
        self.expect(Ready)
        return route

    def grant(self, route: bytes, first_lease: int, indices: Sequence[int], epoch: int = 0) -> None:
        self.send(route, Grant(epoch, 0, 0, first_lease, tuple(indices)))

    # ------------------------------------------------------------ hearing

    def expect(
        self, kind: type[MessageType], condition: Callable[[MessageType], bool] = lambda _: True
    ) -> tuple[bytes, MessageType]:
        """Wait for the next message of this kind, after all those returned before; returns its route and itself."""
        end = time.monotonic() + DEADLINE
        while True:
            for number in range(self._taken, len(self.heard)):
                route, _, message = self.heard[number]
                if isinstance(message, kind) and condition(message):
                    self._taken = number + 1
                    return route, message
            assert time.monotonic() < end, f"no such {kind.__name__}; the last ones: {self.heard[-5:]}"
            self.poll()

    def all_of(self, kind: type[MessageType]) -> list[MessageType]:
        return [message for _, _, message in self.heard if isinstance(message, kind)]

    def batches(self, count: int) -> dict[int, Any]:
        """Wait for the next ``count`` batches; returns them by lease."""
        end = time.monotonic() + DEADLINE
        found: dict[int, Any] = {}
        while len(found) < count:
            while self._taken_results < len(self.received):
                header, values = self.received[self._taken_results]
                self._taken_results += 1
                found.update(zip(header.leases, values, strict=True))
            if len(found) < count:
                assert time.monotonic() < end, f"only {sorted(found)} of {count} batches; heard {self.heard[-3:]}"
                self.poll()
        return found

    def poll(self, milliseconds: int = 50) -> None:
        """Receive the messages of a moment."""
        poller = zmq.Poller()
        for socket in (self._sockets.router, self._sockets.pull):
            poller.register(socket, zmq.POLLIN)
        ready = dict(poller.poll(milliseconds))
        if self._sockets.router in ready:
            route, frame = self._sockets.router.recv_multipart()
            session, message = decode_control(frame)
            self.heard.append((route, session, message))
            if isinstance(message, Heartbeat) and self.acknowledge:
                seqs = [header.seq for header, _ in self.received]
                # The sender may have closed its link since, as after a Stop.
                with contextlib.suppress(zmq.ZMQError):
                    self.send(route, HeartbeatReply(max(seqs, default=0), 0, message.sent_at))
        if self._sockets.pull in ready:
            frames = self._sockets.pull.recv_multipart(copy=False)
            session, header, payloads = decode_results(frames, self._trust)
            assert session == self.session != NO_ID
            self.received.append((header, [payload.build() for payload in payloads]))
