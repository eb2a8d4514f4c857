"""A worker's link: its two connections to the coordinator, DEALER for control and PUSH for results.

They live and die together. One thread uses them and is never blocked: a message beyond a socket's room waits here until
the poller finds the socket writable. Both sockets are opened afresh for each attempt, because libzmq would
hand messages queued for a dead trainer to the next trainer on the same port.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import zmq

from enqueuer_worker.connection import Connection, Refusal, Socket
from enqueuer_worker.local_link import LocalLink, is_local
from enqueuer_worker.under_way import has_bytes_under_way

if TYPE_CHECKING:
    from enqueuer.security.keys import WorkerToken

# How long a closed control socket may take to send its last messages.
_FLUSH_MS = 1_000
# How long to wait for a last control message once the data connection has broken.
_LAST_WORD_MS = 100
# A data port without an answer for this long, beside a working control connection, is behind a firewall.
_DATA_CONNECT_SECONDS = 10.0
# Plain integers: it takes a microsecond to compare the enumeration's members.
_POLLIN, _POLLOUT = int(zmq.POLLIN), int(zmq.POLLOUT)


class Link:
    """A worker's two connections to its coordinator. ``address`` is the coordinator's, for the next control socket.

    ``token`` holds the keys for both; None: no encryption and no proof (on this host, or with ``--insecure``).
    ``data_address`` is for batches, if it differs from the coordinator's own; '': the coordinator's.
    ``interface`` names the network interface to connect from; '' for any.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        poller: zmq.Poller,
        address: str,
        retry_ms: int = 5_000,
        token: WorkerToken | None = None,
        data_address: str = "",
        interface: str = "",
    ) -> None:
        self.address = address
        self._given_data_address = data_address
        self._token = token
        self._interface = interface
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
        self.control = self._connect(zmq.DEALER, self.address)

    def open_data(self, endpoint: str, now: float) -> str:
        """Connect the data socket; returns the address used, with the coordinator's host filled in."""
        if self.data is not None:
            self.data.close()
        # The one of a name's addresses at which the coordinator was found.
        host = self.address if self.control is None else self.control.address
        address = self._given_data_address or fill_in_host(endpoint, host)
        if self.address.startswith("tcp://") and not address.startswith("tcp://"):
            address = "no address"  # a trainer on another machine may not name this machine's own sockets
        self.data = self._connect(zmq.PUSH, address)
        self.data_due = now + _DATA_CONNECT_SECONDS
        return address

    def _connect(self, kind: int, address: str) -> Connection:
        return Connection(self._context, self._poller, kind, address, self._retry_ms, self._token, self._interface)

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
            connection.read_lookup(ready)
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
        """Whether sent results still wait for the network, or for the acknowledgement of the trainer's kernel."""
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
    data_address: str = "",
    interface: str = "",
) -> Link | LocalLink:
    """The link to a trainer at this address: on its host, in the trainer's own directory, or anywhere."""
    if is_local(address):
        return LocalLink(poller, address)
    return Link(context, poller, address, retry_ms, token, data_address, interface)


def fill_in_host(endpoint: str, connected_to: str) -> str:
    """Fill in the coordinator's host: 'tcp://*:5556' means port 5556 of the host of ``connected_to``."""
    for anywhere in ("tcp://*:", "tcp://0.0.0.0:", "tcp://[::]:"):
        if endpoint.startswith(anywhere) and connected_to.startswith("tcp://"):
            return f"{connected_to.rpartition(':')[0]}:{endpoint.removeprefix(anywhere)}"
    return endpoint
