"""The thread that owns all sockets: poll ► events ► core ► actions.

It is the only one that calls the core. Others hand it events through `post`, and calls through `call`.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import math
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import zmq

from enqueuer.core.actions import Action, Deliver, EpochExhausted, FleetFailed, RemoteLine, Report, Send
from enqueuer.core.coordinator import Coordinator
from enqueuer.core.events import (
    BlockUnavailable,
    ControlReceived,
    Event,
    Malformed,
    ResultsReceived,
    ResultsRefused,
    Route,
    RouteLost,
    StopRequested,
    Taken,
)
from enqueuer.errors import EnqueuerError, ProtocolError
from enqueuer.protocol.batch_codec import Trust
from enqueuer.protocol.control_codec import decode_control, encode_control
from enqueuer.protocol.messages import NO_ID, ErrorRecord, Failure, Hello, LoadFailure, Message, Reject
from enqueuer.protocol.results_codec import BlockUnavailableError, FalseHeaderError, decode_header, decode_payloads
from enqueuer.runtime.ready_queue import ReadyQueue
from enqueuer.transport.codecs import Codec
from enqueuer.transport.frames import send_frames
from enqueuer.transport.limits import ConnectionLimit
from enqueuer.transport.slab_exchange import SlabReceiver
from enqueuer.transport.sockets import CoordinatorSockets

logger = logging.getLogger("enqueuer")
remote_logger = logging.getLogger("enqueuer.remote")

T = TypeVar("T")

# How many messages of one socket are read before the others get their turn.
_MESSAGES_PER_TURN = 500
# The last control messages (Stop) get this long to leave.
_LINGER_SECONDS = 0.2
_MALFORMED_LOGGED = 10


@dataclass(frozen=True, slots=True)
class Pair:
    """One bound pair of sockets and what its peers are trusted with. A ``secret`` must be in every Hello."""

    name: str
    sockets: CoordinatorSockets
    trust: Trust
    secret: bytes = field(default=b"", repr=False)
    # Where workers on this host show their shared memory; None where there is no such thing.
    slabs: SlabReceiver | None = None
    # Reads what its workers were asked to compress; None where they were not.
    codec: Codec | None = None


class IoLoop:
    """Drives one `Coordinator`. ``in_process`` takes what the core sends to routes that are no sockets."""

    def __init__(
        self,
        coordinator: Coordinator,
        context: zmq.Context[zmq.Socket[bytes]],
        pairs: list[Pair],
        ready: ReadyQueue,
        *,
        in_process: Callable[[Message], None] | None,
        on_exhausted: Callable[[int], None],
        on_fleet_failed: Callable[[FleetFailed], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._coordinator = coordinator
        self._context = context
        self._pairs = {pair.name: pair for pair in pairs}
        self._ready = ready
        self._in_process = in_process
        self._on_exhausted = on_exhausted
        self._on_fleet_failed = on_fleet_failed
        self._on_failure = on_failure
        self._inbox: deque[Event] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._watched: dict[int, Callable[[], None]] = {}
        # Socket objects, not bare descriptors: one that is closed cannot be written to by its old number.
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._wake_pending = False
        self._poller = zmq.Poller()
        self._poller.register(self._wake_reader.fileno(), zmq.POLLIN)
        for pair in pairs:
            self._poller.register(pair.sockets.router, zmq.POLLIN)
            self._poller.register(pair.sockets.pull, zmq.POLLIN)
            if pair.slabs is not None:
                self._poller.register(pair.slabs.fileno(), zmq.POLLIN)
        self.bytes_total = self.saved_bytes = 0
        self._malformed_count = 0
        ports = {port for pair in pairs if pair.trust is not Trust.LOCAL for port in pair.sockets.ports}
        self._connections = ConnectionLimit(ports) if ports else None
        self._looked_at_connections = -math.inf
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._run, name="enqueuer-io", daemon=True)

    # ------------------------------------------------------------ called by other threads

    def start(self) -> None:
        self._thread.start()

    def post(self, event: Event) -> None:
        """Hand an event to the core."""
        self._inbox.append(event)
        self.wake()

    def wake(self) -> None:
        """Make the loop turn once. The flag is only a saving: a lost race writes one byte too many."""
        if not self._wake_pending:
            self._wake_pending = True
            with contextlib.suppress(OSError):  # full: it will turn; closed: it has ended
                self._wake_writer.send(b"\0")

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run the function in the I/O thread, between two turns. It must not block."""
        future: Future[T] = Future()
        self._calls.append((function, future))
        self.wake()
        if self._finished.is_set():
            self._cancel_calls()
        return future

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back, once and in the I/O thread, when the descriptor becomes readable (or its other end closes)."""
        self.call(lambda: self._watch(fd, callback))

    def join(self, timeout: float) -> bool:
        """Wait for the end; True if it came. At once True in the thread itself."""
        if threading.current_thread() is self._thread:
            return True
        if self._thread.ident is None:
            # Never started, so nobody else will close what it was to own.
            if not self._finished.is_set():
                self._finish()
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # ------------------------------------------------------------ the loop

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:
            # A defect of ours must not become a hang of theirs.
            logger.exception("the I/O thread failed")
            failure = error
            self._on_failure(EnqueuerError(f"internal error in the I/O thread: {failure!r}"))
        finally:
            self._finish()

    def _finish(self) -> None:
        self._finished.set()
        self._close()
        self._cancel_calls()

    def _turn(self) -> bool:
        """One round; False when the session has ended."""
        now = time.monotonic()
        wait = self._coordinator.next_deadline() - now
        timeout = None if wait == math.inf else max(0, math.ceil(wait * 1000))
        readable = self._poller.poll(0 if self._inbox or self._calls else timeout)
        events = self._collect(dict(readable))
        stopping = any(type(event) is StopRequested for event in events)
        while events:
            actions = self._coordinator.handle(events, time.monotonic())
            events = [event for action in actions if (event := self._perform(action)) is not None]
        takes = self._coordinator.takes_until_wake
        self._ready.wake_at(None if takes is None else self._coordinator.ledger.taken_total + takes)
        self._run_calls()
        if self._connections is not None and now - self._looked_at_connections >= self._connections.seconds:
            self._looked_at_connections = now
            self._limit_connections(self._connections)
        return not stopping

    @staticmethod
    def _limit_connections(connections: ConnectionLimit) -> None:
        closed_count = connections.enforce()
        if closed_count:
            logger.warning(
                "closed %d connections: this process has hardly any file descriptors left (ulimit -n)", closed_count
            )

    def _collect(self, readable: dict[Any, int]) -> list[Event]:
        """All that is readable, before any timer is looked at."""
        events: list[Event] = []
        if self._wake_reader.fileno() in readable:
            self._wake_reader.recv(4096)
        # Emptied, then cleared, then the inbox is read: an event that is posted after the clearing wakes again. The
        # other way round, a byte written in between would be read while the flag says that it is still there. Cleared
        # in every turn, since a Ctrl-C in the middle of `wake` leaves the flag without a byte.
        self._wake_pending = False
        for pair in self._pairs.values():
            if pair.slabs is not None and pair.slabs.fileno() in readable:
                pair.slabs.blocks.forget(self._has_left)
                pair.slabs.handle()
            if pair.sockets.router in readable:
                events.extend(self._read_control(pair))
            if pair.sockets.pull in readable:
                events.extend(self._read_results(pair))
        for fd in [fd for fd in self._watched if fd in readable]:
            self._poller.unregister(fd)
            self._watched.pop(fd)()
        while self._inbox:
            events.append(self._inbox.popleft())
        events.append(Taken(self._ready.taken_total))
        return events

    # ------------------------------------------------------------ reading

    def _read_control(self, pair: Pair) -> Iterator[Event]:
        for _ in range(_MESSAGES_PER_TURN):
            try:
                frames, key = pair.sockets.receive_control()
            except zmq.Again:
                return
            route = Route(pair.name, frames[0])
            if self._coordinator.conduct.ignores(route):
                continue
            if key is None:
                # Its leases are others' once that is known; libzmq has no way to close one peer's connection.
                self._send(route, Reject("its key was revoked"))
                yield RouteLost(route)
                continue
            try:
                if len(frames) != 2:
                    raise ProtocolError(f"a control message is one frame, not {len(frames) - 1}")
                session, message = decode_control(frames[1])
                if pair.trust is not Trust.LOCAL and isinstance(message, Failure | LoadFailure):
                    _refuse_pickles(message.error)
            except ProtocolError as error:
                self._note_malformed(pair, error)
                yield Malformed(route, str(error))
                continue
            if isinstance(message, Hello) and not hmac.compare_digest(message.secret, pair.secret):
                reason = f"worker {message.worker_id} on {message.host} has a wrong secret"
                self._note_malformed(pair, reason)
                self._send(route, Reject("wrong secret"))
                yield Malformed(route, reason)
                continue
            yield ControlReceived(route, session, message, key)

    def _read_results(self, pair: Pair) -> Iterator[Event]:
        open_block = pair.slabs.blocks.open if pair.slabs is not None else None
        for _ in range(_MESSAGES_PER_TURN):
            try:
                frames, key = pair.sockets.receive_data()
            except zmq.Again:
                return
            if key is None:
                continue
            try:
                session, header = decode_header(frames)
            except ProtocolError as error:
                self._note_malformed(pair, error)
                yield self._refused(error, key)
                continue
            if session != self._coordinator.settings.session or self._coordinator.conduct.ignores(header.incarnation):
                continue
            try:
                payloads = decode_payloads(frames, header, pair.trust, open_block, pair.codec)
            except BlockUnavailableError as error:
                yield BlockUnavailable(error.incarnation, str(error), key)
                continue
            except ProtocolError as error:
                self._note_malformed(pair, error)
                yield ResultsRefused(header.incarnation, header.seq, header.leases, str(error), key)
                continue
            nbytes = sum([payload.nbytes for payload in payloads])
            self.bytes_total += nbytes
            self.saved_bytes += sum([payload.saved_bytes for payload in payloads])
            yield ResultsReceived(
                header.incarnation,
                header.epoch,
                header.generation,
                header.seq,
                header.busy,
                header.leases,
                payloads,
                nbytes,
                key,
            )

    def _refused(self, error: ProtocolError, key: str) -> ResultsRefused:
        """On this channel nobody has an address: who sent it is what the header says, if it comes that far."""
        incarnation = NO_ID
        if isinstance(error, FalseHeaderError) and error.session == self._coordinator.settings.session:
            incarnation = error.incarnation
        return ResultsRefused(incarnation, 0, (), str(error), key)

    def _has_left(self, incarnation: bytes) -> bool:
        return all(worker.incarnation != incarnation for worker in self._coordinator.fleet)

    def _note_malformed(self, pair: Pair, error: ProtocolError | str) -> None:
        self._malformed_count += 1
        if self._malformed_count <= _MALFORMED_LOGGED:
            logger.warning("dropped a malformed message on the %s sockets: %s", pair.name, error)
        if self._malformed_count == _MALFORMED_LOGGED:
            logger.warning("further malformed messages are only counted (stats().malformed_count)")

    # ------------------------------------------------------------ performing

    def _perform(self, action: Action) -> Event | None:
        """Do it; an event if it went wrong in a way that the core must know."""
        if isinstance(action, Send):
            return self._send(action.route, action.message)
        if isinstance(action, Deliver):
            self._ready.put(action.epoch, action.positions, action.outcomes)
        elif isinstance(action, EpochExhausted):
            self._on_exhausted(action.epoch)
        elif isinstance(action, FleetFailed):
            self._on_fleet_failed(action)
        elif isinstance(action, Report):
            logger.log(action.level, "%s", action.text)
        elif isinstance(action, RemoteLine):
            remote_logger.log(
                action.level, "[%s on %s] %s: %s", action.worker_id, action.host, action.logger, action.text
            )
        return None

    def _send(self, route: Route, message: Message) -> RouteLost | None:
        pair = self._pairs.get(route.place)
        if pair is None:
            if self._in_process is not None:
                self._in_process(message)
            return None
        frame = encode_control(self._coordinator.settings.session, message)
        try:
            send_frames(pair.sockets.router, (route.address, frame))
        except zmq.ZMQError:
            # Unreachable or full (ROUTER_MANDATORY): in either case nothing more can be told to that peer.
            return RouteLost(route)
        return None

    # ------------------------------------------------------------ calls, watches, the end

    def _watch(self, fd: int, callback: Callable[[], None]) -> None:
        self._watched[fd] = callback
        self._poller.register(fd, zmq.POLLIN)

    def _run_calls(self) -> None:
        while self._calls:
            function, future = self._calls.popleft()
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

    def _cancel_calls(self) -> None:
        while self._calls:
            try:
                self._calls.popleft()[1].cancel()
            except IndexError:
                return  # another thread took it

    def _close(self) -> None:
        """The last Stop messages leave; then nothing of the session's sockets is left."""
        routes = self._coordinator.routes
        for pair in self._pairs.values():
            if pair.trust is not Trust.LOCAL:
                pair.sockets.wait_for_disconnects(sum(route.place == pair.name for route in routes), _LINGER_SECONDS)
            pair.sockets.close(_LINGER_SECONDS)
            if pair.slabs is not None:
                pair.slabs.close()
        self._context.term()
        if self._connections is not None:
            self._connections.close()
        self._wake_reader.close()
        self._wake_writer.close()


def _refuse_pickles(error: ErrorRecord | None) -> None:
    """Only the trainer's own processes may name a class by a pickle."""
    while error is not None:
        if error.pickled_type is not None:
            raise ProtocolError("an error from a remote worker carries a pickle")
        error = error.cause
