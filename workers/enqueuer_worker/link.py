"""A worker's link: its two connections to the coordinator, DEALER for control and PUSH for results.

They live and die together. One thread uses them, and it is never blocked: a message that a socket cannot take yet waits
here until the poller finds the socket writable. Both sockets are opened afresh for each attempt, because libzmq would
hand messages queued for a dead trainer to the next trainer on the same port.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

import zmq

from enqueuer.security.curve import secure_client
from enqueuer.security.keys import WorkerToken
from enqueuer.security.monitor import new_monitor_address, receive_event
from enqueuer.transport.frames import receive_frames, send_frames
from enqueuer.transport.sockets import configure
from enqueuer_worker.local_link import LocalLink, is_local
from enqueuer_worker.under_way import has_bytes_under_way

Socket = zmq.Socket[bytes]


class Refusal(Enum):
    """How a handshake with the coordinator failed."""

    KEY = auto()
    """The coordinator rejected this worker's key."""
    UNCLEAR = auto()
    """The coordinator hung up: one side has keys and the other has not, or the token is for other keys."""
    SOCKET = auto()
    """The ZeroMQ socket there is of a kind that a worker does not talk to, such as a trainer's second port."""


_REFUSALS: dict[int, Refusal] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: Refusal.KEY,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: Refusal.UNCLEAR,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: Refusal.UNCLEAR,
}
_WATCHED = zmq.EVENT_CONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
for _event in _REFUSALS:
    _WATCHED |= _event
_FIRST_RETRY_MS = 100
# One attempt is two or three SYNs. The kernel would go on for two minutes, with pauses longer than those between ours.
_CONNECT_MS = 3_000
# How long a closed control socket may take to send its last messages.
_FLUSH_MS = 1_000
# How long to wait for a last control message once the data connection has broken.
_LAST_WORD_MS = 100
# A data port without an answer for this long, beside a working control connection, is behind a firewall.
_DATA_CONNECT_SECONDS = 10.0
# Plain integers: it takes a microsecond to compare the enumeration's members.
_POLLIN, _POLLOUT = int(zmq.POLLIN), int(zmq.POLLOUT)


class Connection:
    """One connecting socket, its monitor, and the messages waiting to be sent through it.

    With a ``token`` it connects only to the coordinator with the token's key.
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
        # Seconds until libzmq tries again: set when an attempt has failed, cleared by the reader.
        self.retrying: float | None = None
        # The descriptor of libzmq's own TCP connection; it is libzmq's to close.
        self.fd: int | None = None
        self._poller = poller
        self._waiting: deque[Sequence[Any]] = deque()
        self._watching_writable = False
        self.socket = configure(context.socket(kind))
        if kind == zmq.PUSH:
            # Without it libzmq queues results for an absent peer, and the next peer on that port gets them. Not for
            # control: with it, a break also drops messages that have arrived and are unread, such as a Stop.
            self.socket.setsockopt(zmq.IMMEDIATE, 1)
        self._waits_for_handshake = kind != zmq.PUSH
        self.socket.setsockopt(zmq.CONNECT_TIMEOUT, _CONNECT_MS)
        self.socket.setsockopt(zmq.RECONNECT_IVL, _FIRST_RETRY_MS)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, max(retry_ms, _FIRST_RETRY_MS))
        if "[" in address:
            self.socket.setsockopt(zmq.IPV6, 1)
        if token is not None:
            secure_client(self.socket, token)
        self.monitor: Socket = self.socket.get_monitor_socket(_WATCHED, new_monitor_address())
        self.readable = 0 if kind == zmq.PUSH else _POLLIN
        if self.readable:
            poller.register(self.socket, self.readable)
        poller.register(self.monitor, _POLLIN)
        try:
            self.socket.connect(address)
        except zmq.ZMQError:
            # Not an address: a coordinator may name anything as its data port.
            self.broken = True

    def send(self, frames: Sequence[Any]) -> None:
        """Send one message, or keep it until the socket can take it."""
        self._waiting.append(frames)
        if len(self._waiting) == 1:
            self.flush()

    def drop_waiting(self) -> None:
        """Forget all unsent messages."""
        self._waiting.clear()

    def flush(self) -> None:
        """Send waiting messages as far as the socket takes them; the poller watches for the rest.

        Control messages wait for the handshake, so that a coordinator that starts late gets one Hello and not many.
        """
        if self._waits_for_handshake and not self.connected:
            return
        while self._waiting:
            try:
                # pyzmq copies frames below 64 KiB nevertheless: that is cheaper than keeping track of them.
                send_frames(self.socket, self._waiting[0], copy=False)
            except zmq.Again:
                break
            self._waiting.popleft()
        if bool(self._waiting) is not self._watching_writable:
            self._watching_writable = bool(self._waiting)
            self._poller.register(self.socket, self.readable | (_POLLOUT if self._waiting else 0))

    def receive(self) -> list[bytes]:
        """Receive all messages that have arrived."""
        frames: list[bytes] = []
        while True:
            try:
                frames.append(receive_frames(self.socket)[-1].bytes)
            except zmq.Again:
                return frames

    def read_monitor(self) -> None:
        """Take note of the connection's events."""
        while self.monitor.poll(0):
            event, value = receive_event(self.monitor, zmq.NOBLOCK)
            if event == zmq.EVENT_CONNECTED:
                self.fd = value
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.connected = True
                self.flush()
            elif event in _REFUSALS:
                # The link is closed at once, as libzmq would try again every tenth of a second; the core waits longer.
                self.refusal, self.broken = _REFUSALS[event], True
            elif event == zmq.EVENT_DISCONNECTED:
                self.broken = True
                if not self.connected and self.refusal is None:
                    # libzmq hangs up without another event when the two kinds of sockets do not fit.
                    self.refusal = Refusal.SOCKET
            elif event == zmq.EVENT_CONNECT_RETRIED:
                self.retrying = value / 1000

    def close(self, linger_ms: int = 0) -> None:
        """Close socket and monitor; libzmq goes on sending for ``linger_ms`` at most."""
        for socket in (self.socket, self.monitor):
            if socket in self._poller:
                self._poller.unregister(socket)
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close(linger=linger_ms)


class Link:
    """A worker's two connections to its coordinator. ``address`` is the coordinator's, for the next control socket.

    ``token`` holds the keys for both; None: no encryption and no proof (on this host, or with ``--insecure``).
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
        # When a data connection still without a handshake counts as unreachable.
        self.data_due = math.inf
        self._context = context
        self._poller = poller
        self._retry_ms = retry_ms

    def open_control(self) -> None:
        """Close any open connection and connect a control socket."""
        self.close()
        self.control = Connection(self._context, self._poller, zmq.DEALER, self.address, self._retry_ms, self._token)

    def open_data(self, endpoint: str, now: float) -> str:
        """Connect the data socket; returns the address used, with the coordinator's host filled in."""
        if self.data is not None:
            self.data.close()
        address = fill_in_host(endpoint, self.address)
        if self.address.startswith("tcp://") and not address.startswith("tcp://"):
            address = "no address"  # a trainer on another machine may not name this machine's own sockets
        self.data = Connection(self._context, self._poller, zmq.PUSH, address, self._retry_ms, self._token)
        self.data_due = now + _DATA_CONNECT_SECONDS
        return address

    def close(self, *, flush: bool = False) -> None:
        """Close both and drop unsent messages; ``flush`` gives control messages a second to leave in the background."""
        for connection, linger_ms in ((self.control, _FLUSH_MS if flush else 0), (self.data, 0)):
            if connection is not None:
                connection.close(linger_ms)
        self.control = self.data = None
        self.data_due = math.inf

    def send_control(self, frame: bytes, *, replaces_waiting: bool = False) -> None:
        """Send or keep one control message, if there is a connection; ``replaces_waiting`` drops those kept before."""
        if self.control is not None:
            if replaces_waiting:
                self.control.drop_waiting()
            self.control.send([frame])

    def send_data(self, frames: Sequence[Any]) -> None:
        """Send or keep one message of results, if there is a connection."""
        if self.data is not None:
            self.data.send(frames)

    def handle(self, ready: dict[Any, int]) -> list[bytes]:
        """Serve the ready sockets of a poll; returns the control messages that have arrived, in order."""
        received: list[bytes] = []
        if self.control is not None and ready.get(self.control.socket, 0) & _POLLIN:
            # Before the monitor: a coordinator's last message (Stop, Reject) comes before its disconnection.
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
                # The data connection may break first, while a last message is under way on the control connection.
                self.control.socket.poll(_LAST_WORD_MS)
            received += self.control.receive()
        if self.data is not None and self.data.connected:
            self.data_due = math.inf
        return received

    @property
    def broken(self) -> bool:
        """Whether one of the connections has broken or could not be opened."""
        control, data = self.control, self.data
        return (control is not None and control.broken) or (data is not None and data.broken)

    @property
    def is_sending(self) -> bool:
        """Whether the network has not yet taken, or the trainer's kernel not acknowledged, results that were sent."""
        data = self.data
        return data is not None and data.connected and data.fd is not None and has_bytes_under_way(data.fd)

    @property
    def has_no_data_port(self) -> bool:
        """Whether something else than the coordinator answers at the data port, beside a working control connection."""
        control, data = self.control, self.data
        if control is None or control.broken or data is None or data.connected:
            return False
        return data.broken and data.refusal is not Refusal.KEY

    @property
    def refusal(self) -> Refusal | None:
        """How a handshake failed, if one has."""
        found = [connection.refusal for connection in (self.control, self.data) if connection is not None]
        return next(filter(None, found), None)


def new_link(
    context: zmq.Context[Socket],
    poller: zmq.Poller,
    address: str,
    retry_ms: int = 5_000,
    token: WorkerToken | None = None,
) -> Link | LocalLink:
    """The link to a trainer at this address: on its host, in the trainer's own directory, or anywhere."""
    return LocalLink(poller, address) if is_local(address) else Link(context, poller, address, retry_ms, token)


def fill_in_host(endpoint: str, connected_to: str) -> str:
    """Fill in the coordinator's host: 'tcp://*:5556' means port 5556 of the host of ``connected_to``."""
    for anywhere in ("tcp://*:", "tcp://0.0.0.0:", "tcp://[::]:"):
        if endpoint.startswith(anywhere) and connected_to.startswith("tcp://"):
            return f"{connected_to.rpartition(':')[0]}:{endpoint.removeprefix(anywhere)}"
    return endpoint
