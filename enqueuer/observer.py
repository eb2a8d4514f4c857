"""The observer: asks a running trainer for snapshots. Every command that looks at a trainer uses it.

    address tcp://…          a ZeroMQ connection to the trainer's control port, with an observer's token if it has keys
    address unix://…         the trainer's socket in this user's directory; `local_observers` finds all of them

One request brings a page of workers. `Observer.look` asks for as many pages as the fleet has and makes one snapshot of
them. After a first look at a thousand workers, the trainer answers each observer with a kilobyte a second and drops
further requests; each snapshot tells when the next one is answered.
"""

from __future__ import annotations

import select
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol

import zmq

from enqueuer.errors import ProtocolError
from enqueuer.monitoring.trainer_sockets import connect_to_trainers
from enqueuer.protocol.control_codec import decode_control, encode_control
from enqueuer.protocol.messages import MOST_ROWS, NO_ID, Observe, Reject, WhoAreYou
from enqueuer.protocol.observation import Snapshot, WorkerRow
from enqueuer.security.curve import secure_client
from enqueuer.security.keys import ObserverToken
from enqueuer.security.monitor import new_monitor_address, receive_event
from enqueuer.transport.message_stream import MessageStream
from enqueuer.transport.sockets import configure, new_context

UNIX_SCHEME = "unix://"
# A number that no event reaches.
NO_EVENT = (1 << 64) - 1
_WATCHED = (
    zmq.EVENT_CONNECT_DELAYED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_CONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
)
# After these the trainer's answer is no. After a mere disconnect libzmq tries again: a tunnel may lead to nothing yet.
_REFUSALS = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH


class NoTrainerError(ConnectionError):
    """No trainer answers at the address; the text says what to look at."""


class Observer:
    """A connection to one trainer. One thread uses it; `close` ends it.

    ``timeout`` is how many seconds the trainer has for each answer. Raises `NoTrainerError` if nothing listens at a
    ``unix://`` address.
    """

    def __init__(self, address: str, token: ObserverToken | None = None, *, timeout: float = 5.0) -> None:
        self.address = address
        self._timeout = timeout
        self._may_ask_at = 0.0
        if address.startswith(UNIX_SCHEME):
            self._link: _Link = _UnixLink(_connect(address, timeout))
        else:
            self._link = _TcpLink(address, token)

    @classmethod
    def of_connection(cls, path: Path, connection: socket.socket, timeout: float) -> Observer:
        """An observer over a connection that is made already."""
        made = cls.__new__(cls)
        made.address, made._timeout, made._may_ask_at = f"{UNIX_SCHEME}{path}", timeout, 0.0
        made._link = _UnixLink(connection)
        return made

    def look(self, *, with_workers: bool = True, after_event: int = 0) -> Snapshot:
        """The trainer's present Snapshot, with all of its workers or none of them, and the events after this number.

        Raises:
            NoTrainerError: the trainer does not answer in time, or is gone.
            PermissionError: it refuses this observer.
        """
        first = self.page(0, MOST_ROWS if with_workers else 0, after_event=after_event)
        rows: list[WorkerRow] = list(first.rows)
        while with_workers and len(rows) < first.rows_total:
            page = self.page(len(rows), MOST_ROWS, after_event=NO_EVENT)
            if not page.rows:
                break  # workers have left meanwhile
            rows += page.rows
        return first._replace(rows=tuple(rows))

    def page(self, first_row: int, rows_count: int, *, after_event: int = 0) -> Snapshot:
        """The trainer's present Snapshot in one request, with at most ``rows_count`` workers from ``first_row`` on.

        Raises as `look` does.
        """
        request = Observe(first_row, rows_count, after_event)
        now = time.monotonic()
        deadline = now + self._timeout
        if self._may_ask_at > now:
            time.sleep(min(self._may_ask_at - now, self._timeout))
        self._link.send(encode_control(NO_ID, request))
        while (frame := self._link.receive(max(0.0, deadline - time.monotonic()))) is not None:
            try:
                _, message = decode_control(frame)
            except ProtocolError as error:
                raise NoTrainerError(
                    f"{self.address} answers as no trainer does ({error}): is it the one in the trainer's bind=…?"
                ) from None
            if isinstance(message, Snapshot):
                if message.first_row == request.first_row:
                    self._may_ask_at = time.monotonic() + message.seconds_to_ask
                    return message
            elif isinstance(message, Reject):
                raise PermissionError(f"{self.address} refuses this observer: {message.reason}")
            elif isinstance(message, WhoAreYou):
                raise NoTrainerError(f"{self.address} runs a version of Enqueuer that shows nothing to observers")
        raise NoTrainerError(f"{self.address}: {self._link.explain()}")

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def __enter__(self) -> Observer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def local_observers(*, timeout: float = 5.0) -> list[Observer]:
    """An observer of each trainer that this user runs on this machine.

    Raises OSError if the directory with their sockets can be entered by other users.
    """
    return [Observer.of_connection(path, made, timeout) for path, made in connect_to_trainers(timeout)]


def _connect(address: str, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(address.removeprefix(UNIX_SCHEME))
    except OSError as error:
        connection.close()
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            reason = "no trainer runs there"
        else:
            reason = error.strerror or "no answer: the path is too long, or the program there hangs"
        raise NoTrainerError(f"{address}: {reason}") from None
    return connection


# ---------------------------------------------------------------- links


class _Link(Protocol):
    def send(self, frame: bytes) -> None: ...

    def receive(self, timeout: float) -> bytes | memoryview | None:
        """The next message; None if none has come within this time."""

    def explain(self) -> str:
        """Why no message has come."""

    def close(self) -> None: ...


class _UnixLink:
    def __init__(self, connection: socket.socket) -> None:
        self._stream = MessageStream(connection)
        self._received: list[memoryview] = []

    def send(self, frame: bytes) -> None:
        self._stream.send([frame], is_data=False)

    def receive(self, timeout: float) -> memoryview | None:
        deadline = time.monotonic() + timeout
        poll = select.poll()  # `select.select` knows no descriptor above 1 023
        poll.register(self._stream.fd, select.POLLIN)
        while not self._received:
            if self._stream.has_ended or not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return None
            self._received = [message.frames[0] for message in self._stream.receive() if message.frames]
        return self._received.pop(0)

    def explain(self) -> str:
        return (
            "the trainer has ended" if self._stream.has_ended else "the trainer does not answer: its I/O thread hangs"
        )

    def close(self) -> None:
        self._stream.close()


class _TcpLink:
    def __init__(self, address: str, token: ObserverToken | None) -> None:
        self._context = new_context()
        self._host = address.removeprefix("tcp://").rpartition(":")[0]
        self._has_token = token is not None
        self._socket = configure(self._context.socket(zmq.DEALER))
        self._monitor = self._context.socket(zmq.PAIR)
        self._seen = 0
        self._is_refused = False
        try:
            if address.startswith("tcp://["):
                self._socket.setsockopt(zmq.IPV6, 1)
            if token is not None:
                secure_client(self._socket, token)
            monitor_address = new_monitor_address()
            self._socket.monitor(monitor_address, _WATCHED)
            self._monitor.connect(monitor_address)
            self._socket.connect(address)
        except BaseException:
            self.close()
            raise

    def send(self, frame: bytes) -> None:
        # The request is kept until the connection is there. After a refused handshake libzmq never has a place to keep
        # it: a send that waits would never end.
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            self._is_refused = True

    def receive(self, timeout: float) -> bytes | None:
        deadline = time.monotonic() + timeout
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        while not self._is_refused:
            found = dict(poller.poll(max(0, int((deadline - time.monotonic()) * 1000))))
            if self._socket in found:
                return self._socket.recv()
            if not found:
                break
            self._note_events()
        return None

    def _note_events(self) -> None:
        while self._monitor.poll(0):
            self._seen |= receive_event(self._monitor).number
        self._is_refused = self._is_refused or bool(self._seen & _REFUSALS)

    def explain(self) -> str:
        self._note_events()
        is_connected = self._seen & zmq.EVENT_CONNECTED
        # A trainer that is only busy has refused nothing: the connection stands, without its handshake.
        is_closed = self._is_refused or self._seen & zmq.EVENT_DISCONNECTED
        if self._seen & zmq.EVENT_HANDSHAKE_SUCCEEDED or (is_connected and not is_closed):
            return "the trainer does not answer: another program, an older version, busy, or its I/O thread hangs"
        if is_connected and self._has_token:
            return "it does not admit this token: revoked, of another coordinator.key, or the trainer has no keys"
        if is_connected and self._is_refused:
            return "it wants an observer's token: --token-file, made by `enqueuer keygen DIR --add-observer`"
        if is_connected:
            return (
                "the connection is closed again: it wants an observer's token (--token-file), or the trainer has just "
                "ended, or a tunnel or another program is there"
            )
        if self._seen & zmq.EVENT_CONNECT_RETRIED and not self._seen & zmq.EVENT_CONNECT_DELAYED:
            return f"{self._host} is not found: no machine of that name, or no network that leads to it"
        return "nothing answers at this address: no trainer runs there, or a firewall drops it"

    def close(self) -> None:
        self._socket.close(linger=0)
        self._monitor.close(linger=0)
        self._context.term()
