"""Attacks on a trainer's two ports, from threads of this process, until a given time.

Each attack is a function of a `Scene` that returns how many messages, or connections, it has sent. `CASES` is the
table; an attack that needs another kind of trainer says so there.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import zmq

from enqueuer.protocol import messages as m
from enqueuer.protocol.control_codec import encode_control
from enqueuer.security.curve import secure_client
from enqueuer.security.keys import WorkerToken, new_secret_key, public_key_of
from enqueuer.transport.frames import send_frames
from enqueuer.transport.sockets import configure, new_context
from tests.hostile.liar import Liar
from tests.hostile.target import Target

FLOOD_PER_SECOND = 2_000
_TICK_SECONDS = 0.01
_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
IDLE_CONNECTIONS = 120
LOW_FILES_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Scene:
    """The addresses of the trainer, and the end of the attack."""

    control: str
    data: str
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoints(self) -> tuple[str, str]:
        return self.control, self.data

    def ticks(self, seconds: float = _TICK_SECONDS) -> Iterator[None]:
        """Yields now and every so many seconds, until the end of the attack."""
        due = time.monotonic()
        while not self.stop.is_set():
            yield
            due += seconds
            self.stop.wait(max(0.0, due - time.monotonic()))


Attack = Callable[[Scene], int]


# ---------------------------------------------------------------- TCP


def _connect(endpoint: str) -> socket.socket:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=5.0)


def tcp_garbage(scene: Scene) -> int:
    """100 connections a second that send 4 KiB of garbage and close."""
    count = 0
    for _ in scene.ticks(0.02):
        for endpoint in scene.endpoints:
            with suppress(OSError), _connect(endpoint) as connection:
                connection.sendall(os.urandom(4096))
                count += 1
    return count


def huge_announcements(scene: Scene) -> int:
    """A proper handshake, then a frame announced with 2**62 bytes, with 7 GiB, and a command with 1 GiB."""
    count = 0
    for _ in scene.ticks(0.05):
        for endpoint, kind in zip(scene.endpoints, (b"DEALER", b"PUSH"), strict=True):
            for flags, size in ((2, 2**62), (2, 7 << 30), (6, 1 << 30), (3, 2**63 - 1)):
                with suppress(OSError), _connect(endpoint) as connection:
                    connection.sendall(_GREETING + _ready(kind) + struct.pack(">BQ", flags, size) + bytes(1000))
                    count += 1
    return count


def _ready(kind: bytes) -> bytes:
    name = b"Socket-Type"
    body = b"\x05READY" + bytes([len(name)]) + name + struct.pack(">I", len(kind)) + kind
    return b"\x04" + bytes([len(body)]) + body


def half_handshakes(scene: Scene) -> int:
    """50 connections that begin their greeting and stop; each that is closed is replaced."""
    return _hold(scene, 50, lambda connection, step: connection.sendall(_GREETING[:10]) if step == 0 else None)


def slow_handshakes(scene: Scene) -> int:
    """50 connections that send their greeting a byte at a time, ten bytes a second."""
    return _hold(scene, 50, lambda connection, step: connection.sendall(_GREETING[step % 64 : step % 64 + 1]))


def idle_connections(scene: Scene) -> int:
    """Silent connections that nearly use up the trainer's files."""
    return _hold(scene, IDLE_CONNECTIONS, lambda connection, step: None)


def too_many_connections(scene: Scene) -> int:
    """Twice as many connections as the trainer may have files; each that is closed is replaced."""
    return _hold(scene, 2 * LOW_FILES_LIMIT, lambda connection, step: None)


def _hold(scene: Scene, count: int, act: Callable[[socket.socket, int], object]) -> int:
    """Keep this many connections, shared between both ports; returns how many were made."""
    made = step = 0
    held: list[tuple[socket.socket, int]] = []
    try:
        for _ in scene.ticks(0.1):
            while len(held) < count and not scene.stop.is_set():
                with suppress(OSError):
                    held.append((_connect(scene.endpoints[made % 2]), step))
                made += 1
            held = [(connection, began) for connection, began in held if _act(connection, act, step - began)]
            step += 1
    finally:
        for connection, _ in held:
            connection.close()
    return made


def _act(connection: socket.socket, act: Callable[[socket.socket, int], object], step: int) -> bool:
    """Act on one connection; returns False, and closes it, if the trainer has closed it."""
    try:
        act(connection, step)
        connection.setblocking(False)
        while connection.recv(4096):
            pass
    except BlockingIOError:
        connection.settimeout(5.0)
        return True
    except OSError:
        pass
    connection.close()
    return False


# ---------------------------------------------------------------- ZeroMQ


@contextmanager
def _sockets(scene: Scene) -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    context = new_context()
    with ExitStack() as stack:
        stack.callback(context.term)
        control, data = configure(context.socket(zmq.DEALER)), configure(context.socket(zmq.PUSH))
        for own, endpoint in ((control, scene.control), (data, scene.data)):
            stack.callback(own.close, 0)
            own.connect(endpoint)
        yield control, data


def _flood(scene: Scene, send: Callable[[zmq.Socket[bytes], zmq.Socket[bytes]], Any]) -> int:
    count = 0
    with _sockets(scene) as (control, data):
        for _ in scene.ticks():
            for _ in range(int(FLOOD_PER_SECOND * _TICK_SECONDS)):
                send(control, data)
                count += 1
            while control.poll(0):
                control.recv_multipart()
    return count


def malformed_control(scene: Scene) -> int:
    """2 000 frames a second that are not msgpack."""
    frame = os.urandom(200)
    return _flood(scene, lambda control, data: control.send(frame))


def unknown_kinds(scene: Scene) -> int:
    """2 000 well-formed messages a second of an unknown kind."""
    frame = msgpack.packb([99, bytes(16), 1, 2, 3])
    return _flood(scene, lambda control, data: control.send(frame))


def heartbeats_without_hello(scene: Scene) -> int:
    """2 000 heartbeats a second from a peer that never sends Hello."""
    frame = encode_control(bytes(16), m.Heartbeat((1, 2, 3), 3, 0, 0, 0, 1.0, 0.001))
    return _flood(scene, lambda control, data: control.send(frame))


def malformed_results(scene: Scene) -> int:
    """2 000 malformed messages a second on the data port."""
    frames = [os.urandom(200), os.urandom(1000)]
    return _flood(scene, lambda control, data: data.send_multipart(frames))


def results_without_session(scene: Scene) -> int:
    """2 000 results a second without a session."""
    frame = msgpack.packb([64, bytes(16), bytes(16), 0, 0, 1, 0.1, [1, 1], [b"\xc0"], [0], [0]])
    return _flood(scene, lambda control, data: data.send(frame))


def old_versions(scene: Scene) -> int:
    """2 000 Hellos a second of an old protocol version."""
    hello = m.Hello(0, m.Role.WORKER, "old", os.urandom(16), b"", 0, "host", 1, "2.0", "0.0", b"", (), 0)
    frame = encode_control(b"", hello)
    return _flood(scene, lambda control, data: control.send(frame))


def new_connections(scene: Scene) -> int:
    """20 connections a second that each send a new Hello and close."""
    count = 0
    for _ in scene.ticks(0.05):
        with _sockets(scene) as (control, _):
            hello = m.Hello(1, m.Role.WORKER, "new", os.urandom(16), b"", 0, "h", 1, "2.0", "0", b"", (), 0)
            control.send(encode_control(b"", hello))
            control.poll(50)
            count += 1
    return count


def observe_floods(scene: Scene) -> int:
    """2 000 requests for the largest snapshot a second."""
    frame = encode_control(b"", m.Observe(0, m.MOST_ROWS, 0))
    return _flood(scene, lambda control, data: control.send(frame))


def new_observers(scene: Scene) -> int:
    """20 connections a second that each ask for ten snapshots and close."""
    frame = encode_control(b"", m.Observe(0, m.MOST_ROWS, 0))
    count = 0
    for _ in scene.ticks(0.05):
        with _sockets(scene) as (control, _):
            for _ in range(10):
                control.send(frame)
            control.poll(50)
            count += 1
    return count


def knocking(make_secret: Callable[[], bytes] | None) -> Attack:
    """20 connections a second to a trainer with keys: without a key, or with a key of another coordinator."""

    def knock(scene: Scene) -> int:
        count = 0
        context = new_context()
        try:
            for _ in scene.ticks(0.05):
                with configure(context.socket(zmq.DEALER)) as socket:
                    if make_secret is not None:
                        secure_client(socket, WorkerToken(public_key_of(make_secret()), make_secret()))
                    socket.connect(scene.endpoints[count % 2])
                    # Not waiting: after a refused handshake libzmq has no peer to send to, for ever.
                    with suppress(zmq.Again):
                        send_frames(socket, [b"let me in"])
                    socket.poll(20)
                    count += 1
        finally:
            context.term()
        return count

    return knock


# ---------------------------------------------------------------- a worker that lies


def _lie(scene: Scene, lie: Callable[[Liar], object]) -> int:
    """2 000 lies a second from a peer that has joined as a worker."""
    count = 0
    with Liar(scene.control) as liar:
        liar.join()
        for _ in scene.ticks():
            liar.hear()
            for _ in range(int(FLOOD_PER_SECOND * _TICK_SECONDS)):
                lie(liar)
                count += 1
    return count


def lying(lie: Callable[[Liar], object]) -> Attack:
    return lambda scene: _lie(scene, lie)


# ---------------------------------------------------------------- the table


@dataclass(frozen=True, slots=True)
class Case:
    """One attack. ``rejected``: it sends messages, so a cost per message can be given. For the rest see `Target`."""

    attack: Attack
    rejected: bool = True
    files_limit: int = 0
    keyed: bool = False

    def target(self, directory: str | Path, length: int) -> Target:
        return Target(Path(directory), length, self.files_limit, keyed=self.keyed)


CASES: dict[str, Case] = {
    "TCP garbage on both ports": Case(tcp_garbage),
    "frames announced with up to 2**63 bytes": Case(huge_announcements),
    "half handshakes": Case(half_handshakes, rejected=False),
    "slow handshakes": Case(slow_handshakes, rejected=False),
    f"{IDLE_CONNECTIONS} idle connections, {LOW_FILES_LIMIT} files": Case(
        idle_connections, rejected=False, files_limit=LOW_FILES_LIMIT
    ),
    f"{2 * LOW_FILES_LIMIT} idle connections, {LOW_FILES_LIMIT} files": Case(
        too_many_connections, rejected=False, files_limit=LOW_FILES_LIMIT
    ),
    "malformed control messages, 2 000/s": Case(malformed_control),
    "messages of an unknown kind, 2 000/s": Case(unknown_kinds),
    "heartbeats without a Hello, 2 000/s": Case(heartbeats_without_hello),
    "malformed results, 2 000/s": Case(malformed_results),
    "results of no session, 2 000/s": Case(results_without_session),
    "Hello of an old version, 2 000/s": Case(old_versions),
    "new connections that say Hello, 20/s": Case(new_connections),
    "requests of an observer, 2 000/s": Case(observe_floods),
    "new observers that ask ten times, 20/s": Case(new_observers),
    "no key, 20 connections/s": Case(knocking(None), keyed=True),
    "a key that is not listed, 20 connections/s": Case(knocking(new_secret_key), keyed=True),
    "TCP garbage on both ports, with keys": Case(tcp_garbage, keyed=True),
    "half handshakes, with keys": Case(half_handshakes, rejected=False, keyed=True),
    "a worker's heartbeats, 2 000/s": Case(lying(Liar.beat)),
    "a worker's log lines, 2 000/s": Case(lying(Liar.log)),
    "a worker's forged answers, 2 000/s": Case(lying(Liar.answer_anything)),
}
