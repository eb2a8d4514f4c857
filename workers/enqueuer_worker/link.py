"""A worker's two connections to its coordinator: DEALER for control, PUSH for results. They live and die together.

Used by one thread, which is never blocked: what a socket cannot take yet waits here and goes out when the poller says
that it can. Both sockets are opened afresh for each attempt: libzmq would otherwise hand what is queued for a dead
trainer to the next one on the same port.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any

import zmq

from enqueuer.security.curve import secure_client
from enqueuer.security.keys import WorkerToken
from enqueuer.transport.frames import receive_frames, send_frames
from enqueuer.transport.sockets import configure
from enqueuer_worker.supervisor.refusals import Refusal

Socket = zmq.Socket[bytes]

# An event's number (16 bits) and value (32 bits) are the first frame of what a socket's monitor sends.
_MONITOR_EVENT = struct.Struct("=Hi")
_REFUSALS = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: Refusal.KEY,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: Refusal.UNCLEAR,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: Refusal.UNCLEAR,
}
_WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
for _event in _REFUSALS:
    _WATCHED |= _event
_FIRST_RETRY_MS = 100
# One attempt is two or three SYNs; the kernel would go on for two minutes, with pauses that double beyond our own.
_CONNECT_MS = 3_000
# What a control socket that is going away may still need to get its last message out.
_FLUSH_MS = 1_000
# A control connection that works beside a data port that does not answer is a firewall's doing; it has to be told.
_LAST_WORD_MS = 100
_DATA_CONNECT_SECONDS = 10.0
# Plain integers: the enumeration's own take a microsecond to be compared.
_POLLIN, _POLLOUT = int(zmq.POLLIN), int(zmq.POLLOUT)
_monitor_numbers = itertools.count()


class Connection:
    """One connecting socket with its monitor and what waits to be sent through it.

    With a ``token`` it speaks to nobody but the coordinator whose key that has.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        poller: zmq.Poller,
        kind: int,
        address: str,
        retry_ms: int,
        token: WorkerToken | None = None,
    ) -> None:
        self.connected = False
        self.broken = False
        # Set when the handshake has failed.
        self.refusal: Refusal | None = None
        # Seconds until libzmq tries again, set when an attempt has failed and cleared by who has read it.
        self.retrying: float | None = None
        self._poller = poller
        self._waiting: deque[Sequence[Any]] = deque()
        self._watching_writable = False
        self.socket = configure(context.socket(kind))
        if kind == zmq.PUSH:
            # Without it libzmq queues results for a peer that is not there, and the next one on that port gets them.
            # Not for control: with it, a break also drops what has arrived and was not read yet, such as a Stop.
            self.socket.setsockopt(zmq.IMMEDIATE, 1)
        self._waits_for_handshake = kind != zmq.PUSH
        self.socket.setsockopt(zmq.CONNECT_TIMEOUT, _CONNECT_MS)
        self.socket.setsockopt(zmq.RECONNECT_IVL, _FIRST_RETRY_MS)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, max(retry_ms, _FIRST_RETRY_MS))
        if "[" in address:
            self.socket.setsockopt(zmq.IPV6, 1)
        if token is not None:
            secure_client(self.socket, token)
        # pyzmq's default name comes from the socket's fd number, which the next socket may get before this one is gone.
        name = f"inproc://enqueuer-monitor-{next(_monitor_numbers)}"
        self.monitor: Socket = self.socket.get_monitor_socket(_WATCHED, name)
        self.readable = 0 if kind == zmq.PUSH else _POLLIN
        if self.readable:
            poller.register(self.socket, self.readable)
        poller.register(self.monitor, _POLLIN)
        try:
            self.socket.connect(address)
        except zmq.ZMQError:
            # No address at all: a coordinator may say anything about where its data port is.
            self.broken = True

    def send(self, frames: Sequence[Any]) -> None:
        """Send one message, or keep it until the socket can take it."""
        self._waiting.append(frames)
        if len(self._waiting) == 1:
            self.flush()

    def drop_waiting(self) -> None:
        self._waiting.clear()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it; the poller watches for the rest.

        Control waits here for the handshake, lest a late listener get a heap of stale Hellos.
        """
        if self._waits_for_handshake and not self.connected:
            return
        while self._waiting:
            try:
                # Frames below 64 KiB are copied all the same: that is cheaper than keeping track of them.
                send_frames(self.socket, self._waiting[0], copy=False)
            except zmq.Again:
                break
            self._waiting.popleft()
        if bool(self._waiting) is not self._watching_writable:
            self._watching_writable = bool(self._waiting)
            self._poller.register(self.socket, self.readable | (_POLLOUT if self._waiting else 0))

    def receive(self) -> list[bytes]:
        """All messages that are there."""
        frames: list[bytes] = []
        while True:
            try:
                frames.append(receive_frames(self.socket)[-1].bytes)
            except zmq.Again:
                return frames

    def read_monitor(self) -> None:
        """Take note of what has happened to the connection."""
        while self.monitor.poll(0):
            frames: list[bytes] = self.monitor.recv_multipart(zmq.NOBLOCK)
            event, value = _MONITOR_EVENT.unpack(frames[0])
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.connected = True
                self.flush()
            elif event in _REFUSALS:
                # At once, and before libzmq tries again every tenth of a second: the core knows how to wait.
                self.refusal, self.broken = _REFUSALS[event], True
            elif event == zmq.EVENT_DISCONNECTED:
                self.broken = True
            elif event == zmq.EVENT_CONNECT_RETRIED:
                self.retrying = value / 1000

    def close(self, linger_ms: int = 0) -> None:
        for socket in (self.socket, self.monitor):
            if socket in self._poller:
                self._poller.unregister(socket)
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close(linger=linger_ms)


class Link:
    """The pair, opened and closed as the worker's core says. ``address`` is where the next control socket goes.

    ``token`` is for both of them; None: without encryption and proof (on this host, or as the owner wants it).
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        poller: zmq.Poller,
        address: str,
        retry_ms: int = 5_000,
        token: WorkerToken | None = None,
    ) -> None:
        self.address = address
        self._token = token
        self.control: Connection | None = None
        self.data: Connection | None = None
        # When a data connection that is not there yet counts as unreachable.
        self.data_due = math.inf
        self._context = context
        self._poller = poller
        self._retry_ms = retry_ms

    def open_control(self) -> None:
        self.close()
        self.control = Connection(self._context, self._poller, zmq.DEALER, self.address, self._retry_ms, self._token)

    def open_data(self, endpoint: str, now: float) -> str:
        """Connect the data socket; returns the address used, in which the coordinator's host is filled in."""
        if self.data is not None:
            self.data.close()
        address = fill_in_host(endpoint, self.address)
        if self.address.startswith("tcp://") and not address.startswith("tcp://"):
            address = "no address"  # a trainer elsewhere has no business with sockets that only this machine has
        self.data = Connection(self._context, self._poller, zmq.PUSH, address, self._retry_ms, self._token)
        self.data_due = now + _DATA_CONNECT_SECONDS
        return address

    def close(self, *, flush: bool = False) -> None:
        """Close both, with what is still in them; ``flush`` gives control messages a second to leave meanwhile."""
        for connection, linger_ms in ((self.control, _FLUSH_MS if flush else 0), (self.data, 0)):
            if connection is not None:
                connection.close(linger_ms)
        self.control = self.data = None
        self.data_due = math.inf

    def send_control(self, frame: bytes, *, replaces_waiting: bool = False) -> None:
        """Send or keep one control message; without a connection nothing happens. A Hello replaces what waits."""
        if self.control is not None:
            if replaces_waiting:
                self.control.drop_waiting()
            self.control.send([frame])

    def send_data(self, frames: Sequence[Any]) -> None:
        if self.data is not None:
            self.data.send(frames)

    def handle(self, ready: dict[Any, int]) -> list[bytes]:
        """Do what the poller found ready; returns the control messages that have arrived, in order."""
        received: list[bytes] = []
        if self.control is not None and ready.get(self.control.socket, 0) & _POLLIN:
            # Before the monitor: what a coordinator says last (Stop, Reject) comes before its disconnection.
            received = self.control.receive()
        for connection in (self.control, self.data):
            if connection is None:
                continue
            if connection.monitor in ready:
                connection.read_monitor()
            if ready.get(connection.socket, 0) & _POLLOUT:
                connection.flush()
        if self.broken and self.control is not None:
            if not self.control.broken:
                # The data connection may be seen to break before a last word that is underway on the other one.
                self.control.socket.poll(_LAST_WORD_MS)
            received += self.control.receive()
        if self.data is not None and self.data.connected:
            self.data_due = math.inf
        return received

    @property
    def broken(self) -> bool:
        """Whether a connection that was there has gone."""
        control, data = self.control, self.data
        return (control is not None and control.broken) or (data is not None and data.broken)

    @property
    def refusal(self) -> Refusal | None:
        """Why a handshake failed, if one has."""
        found = [connection.refusal for connection in (self.control, self.data) if connection is not None]
        return next(filter(None, found), None)


def fill_in_host(endpoint: str, connected_to: str) -> str:
    """An endpoint as a worker can use it: 'tcp://*:5556' means port 5556 of the host that it has connected to."""
    for anywhere in ("tcp://*:", "tcp://0.0.0.0:", "tcp://[::]:"):
        if endpoint.startswith(anywhere) and connected_to.startswith("tcp://"):
            return f"{connected_to.rpartition(':')[0]}:{endpoint.removeprefix(anywhere)}"
    return endpoint
