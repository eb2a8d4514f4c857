"""One of a worker's two connections to its coordinator: a socket, its monitor, the messages waiting to be sent.

    IP address ─────────────────────────────► socket, libzmq tries again for ever
    name, interface ──► look-up ──► targets ──► socket ──► connected
                                       ▲          │ failed, refused
                                       └── next ──┘ none left: broken, and the link is opened anew after a pause

libzmq looks up names as well, and again for each attempt, but takes only the first address that it finds. So names are
looked up here, beside the poll loop, as a name server may take its time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import zmq

from enqueuer.security.curve import secure_client
from enqueuer.security.monitor import new_monitor_address, receive_event
from enqueuer.transport.frames import receive_frames, send_frames
from enqueuer.transport.sockets import configure
from enqueuer_worker.background import BackgroundCall
from enqueuer_worker.trainer_addresses import Target, find_targets, needs_lookup

if TYPE_CHECKING:
    from enqueuer.security.keys import WorkerToken

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
# libzmq has no part in the attempts at looked-up addresses: this is longer than any of them takes.
_NO_RETRY_MS = 60_000
# One attempt is two or three SYNs. The kernel would go on for two minutes, with pauses longer than those between ours.
_CONNECT_MS = 3_000
# Plain integers: it takes a microsecond to compare the enumeration's members.
_POLLIN, _POLLOUT = int(zmq.POLLIN), int(zmq.POLLOUT)


class Connection:
    """A connecting socket. ``address`` is the one in use; of a name, the last one tried.

    With a ``token`` it connects only to the coordinator with the token's key; with an ``interface`` it connects from
    that one's address.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        poller: zmq.Poller,
        kind: int,
        address: str,
        retry_ms: int,
        token: WorkerToken | None = None,
        interface: str = "",
    ) -> None:
        self.address = address
        self.connected = False
        self.broken = False
        # Set when the handshake has failed.
        self.refusal: Refusal | None = None
        # Seconds until libzmq tries again: set when an attempt has failed, cleared by the reader.
        self.retrying: float | None = None
        # The descriptor of libzmq's own TCP connection; it is libzmq's to close.
        self.fd: int | None = None
        self._context = context
        self._poller = poller
        self._kind = kind
        self._token = token
        self._waiting: deque[Sequence[Any]] = deque()
        self._watching_writable = False
        self._waits_for_handshake = kind != zmq.PUSH
        self.readable = 0 if kind == zmq.PUSH else _POLLIN
        # The look-up while it goes on; then its addresses still to be tried.
        self._lookup: BackgroundCall[list[Target]] | None = None
        self._targets: deque[Target] = deque()
        self._is_looked_up = needs_lookup(address, interface)
        self._retry_ms = _NO_RETRY_MS if self._is_looked_up else max(retry_ms, _FIRST_RETRY_MS)
        self._open_socket()
        if self._is_looked_up:
            self._lookup = BackgroundCall(lambda: _look_up(address, interface), "enqueuer-name")
            poller.register(self._lookup.fileno(), _POLLIN)
        else:
            self._connect(address)

    def _open_socket(self) -> None:
        self.socket = configure(self._context.socket(self._kind))
        if self._kind == zmq.PUSH:
            # Without it libzmq queues results for an absent peer, and the next peer on that port gets them. Not for
            # control: with it, a break also drops messages that have arrived and are unread, such as a Stop.
            self.socket.setsockopt(zmq.IMMEDIATE, 1)
        self.socket.setsockopt(zmq.CONNECT_TIMEOUT, _CONNECT_MS)
        self.socket.setsockopt(zmq.RECONNECT_IVL, min(_FIRST_RETRY_MS, self._retry_ms))
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, self._retry_ms)
        if self._token is not None:
            secure_client(self.socket, self._token)
        self.monitor: Socket = self.socket.get_monitor_socket(_WATCHED, new_monitor_address())
        if self.readable:
            self._poller.register(self.socket, self.readable)
        self._poller.register(self.monitor, _POLLIN)

    def _connect(self, address: str) -> None:
        if "[" in address:
            self.socket.setsockopt(zmq.IPV6, 1)
        try:
            self.socket.connect(address)
        except zmq.ZMQError:
            # Not an address: a coordinator may name anything as its data port.
            self.broken = True

    def _fail(self) -> None:
        """The attempt at an address has failed, or a connection has broken."""
        if self.connected or not self._targets:
            self.broken = True
        else:
            self._connect_to_next()

    def _connect_to_next(self) -> None:
        # A socket of its own for each address: late events of the former one do not count.
        target = self._targets.popleft()
        self._close_socket(0)
        self._open_socket()
        self.address, self._watching_writable = target.endpoint, False
        self._connect(target.route)

    def read_lookup(self, ready: dict[Any, int]) -> None:
        """Connect to the first address once the name is looked up."""
        if self._lookup is not None and self._lookup.fileno() in ready:
            self._targets.extend(self._lookup.result or ())
            self._end_lookup()
            self._fail()

    def _end_lookup(self) -> None:
        lookup, self._lookup = self._lookup, None
        if lookup is not None:
            self._poller.unregister(lookup.fileno())
            lookup.close()

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

        Control messages wait for the handshake, so a late coordinator gets one Hello and not many.
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
                # The refusal of another one of the name's addresses is no longer of interest.
                self.connected, self.refusal = True, None
                self.flush()
            elif event in _REFUSALS:
                # The link is closed at once, as libzmq would try again every tenth of a second; the core waits longer.
                self.refusal = _REFUSALS[event]
                self._fail()
            elif event == zmq.EVENT_DISCONNECTED:
                if not self.connected and self.refusal is None:
                    # libzmq hangs up without another event when the two kinds of sockets do not fit.
                    self.refusal = Refusal.SOCKET
                self._fail()
            elif event == zmq.EVENT_CONNECT_RETRIED:
                if self._is_looked_up:
                    self._fail()
                else:
                    self.retrying = value / 1000

    def close(self, linger_ms: int = 0) -> None:
        """Close socket and monitor; libzmq goes on sending for ``linger_ms`` at most."""
        self._end_lookup()
        self._close_socket(linger_ms)

    def _close_socket(self, linger_ms: int) -> None:
        for socket in (self.socket, self.monitor):
            if socket in self._poller:
                self._poller.unregister(socket)
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close(linger=linger_ms)


def _look_up(address: str, interface: str) -> list[Target]:
    """The addresses to try; none if they cannot be found. The supervisor's diagnosis tells the reason."""
    try:
        return find_targets(address, interface)
    except (OSError, UnicodeError):
        return []
