"""The I/O thread, which owns all sockets and alone calls the core: poll ► events ► core ► actions.

Other threads hand it events through `post` and functions through `call`; both wake the poll.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import zmq

from enqueuer.core.actions import (
    Action,
    Deliver,
    EpochEnded,
    EpochExhausted,
    FleetFailed,
    RemoteLine,
    Report,
    Send,
    Show,
)
from enqueuer.core.coordinator import Coordinator
from enqueuer.core.events import Event, Route, RouteLost, StopRequested, Taken
from enqueuer.errors import EnqueuerError
from enqueuer.protocol.batch import Trust
from enqueuer.protocol.control_codec import encode_control
from enqueuer.protocol.messages import Message
from enqueuer.protocol.observation import Snapshot
from enqueuer.runtime.channels import Channel
from enqueuer.runtime.ready_queue import ReadyQueue
from enqueuer.runtime.receiver import Receiver
from enqueuer.transport.connection_limit import ConnectionLimit
from enqueuer.transport.sockets import poll_timeout_ms

logger = logging.getLogger("enqueuer")
remote_logger = logging.getLogger("enqueuer.remote")

T = TypeVar("T")

# The last control messages (Stop) get this long to leave.
_LINGER_SECONDS = 0.2


class IoLoop:
    """Drives one `Coordinator`. ``in_process`` gets the messages to the trainer's own threads, which have no socket.

    `post`, `wake`, `call`, `watch` and `join` may be called by any thread; the callbacks run in the I/O thread.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        context: zmq.Context[zmq.Socket[bytes]],
        channels: list[Channel],
        ready: ReadyQueue,
        *,
        in_process: Callable[[Message], None],
        on_exhausted: Callable[[int], None],
        on_ended: Callable[[int], None],
        on_fleet_failed: Callable[[FleetFailed], None],
        on_failure: Callable[[BaseException], None],
        on_turn: Callable[[float], None],
        make_snapshot: Callable[[Show], Snapshot],
    ) -> None:
        self._coordinator = coordinator
        self._context = context
        self._channels = {channel.name: channel for channel in channels}
        self._ready = ready
        self._in_process = in_process
        self._on_exhausted = on_exhausted
        self._on_ended = on_ended
        self._on_fleet_failed = on_fleet_failed
        self._on_failure = on_failure
        self._on_turn = on_turn
        self._make_snapshot = make_snapshot
        # How a frame is sent, for channels whose peers are not the trainer's own threads.
        self._senders: dict[str, Callable[[bytes, bytes], bool]] = {
            channel.name: channel.sockets.send for channel in channels
        }
        self._inbox: deque[Event] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._watched: dict[int, Callable[[], None]] = {}
        # Socket objects, not bare descriptors: after `close`, no write can hit a reused descriptor number.
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._wake_pending = False
        self._poller = zmq.Poller()
        self._poller.register(self._wake_reader.fileno(), zmq.POLLIN)
        for channel in channels:
            channel.sockets.register(self._poller)
            if channel.slabs is not None:
                self._poller.register(channel.slabs.fileno(), zmq.POLLIN)
        self._session = coordinator.state.facts.session
        self.receiver = Receiver(self._session, coordinator.ignores, self._send)
        ports = {port for channel in channels if channel.trust is not Trust.LOCAL for port in channel.sockets.ports}
        self._connections = ConnectionLimit(ports) if ports else None
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
        """Make the loop turn once. The flag only saves writes: a lost race writes one byte too many."""
        if not self._wake_pending:
            self._wake_pending = True
            with contextlib.suppress(OSError):  # full: the loop will turn; closed: it has ended
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

    def add_sender(self, channel: str, send: Callable[[bytes, bytes], bool]) -> None:
        """Have ``send`` carry the messages for this channel's routes; it returns False if the peer is gone.

        Called before `start`.
        """
        self._senders[channel] = send

    @property
    def shared_bytes(self) -> int:
        """Bytes of batches that came through shared memory."""
        slabs = [channel.slabs for channel in self._channels.values() if channel.slabs is not None]
        return sum(receiver.blocks.opened_bytes for receiver in slabs)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in the I/O thread."""
        return threading.current_thread() is self._thread

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end; True if it came, at once in the thread itself."""
        if self.is_current:
            return True
        if self._thread.ident is None:
            # Never started, so its sockets are closed here.
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
            # A defect of this library must raise in the training loop, not hang it.
            logger.exception("the I/O thread failed")
            self._on_failure(EnqueuerError(f"internal error in the I/O thread: {error!r}"))
        finally:
            self._finish()

    def _finish(self) -> None:
        self._finished.set()
        self._close()
        self._cancel_calls()

    def _turn(self) -> bool:
        """One round; False when the session has ended."""
        now = time.monotonic()
        timeout = poll_timeout_ms(self._coordinator.next_deadline(), now)
        readable = self._poller.poll(0 if self._inbox or self._calls else timeout)
        events = self._collect(dict(readable))
        stopping = any(type(event) is StopRequested for event in events)
        while events:
            actions = self._coordinator.handle(events, time.monotonic())
            events = [event for action in actions if (event := self._perform(action)) is not None]
        takes = self._coordinator.takes_until_wake
        self._ready.wake_at(None if takes is None else self._coordinator.taken_total + takes)
        self._run_calls()
        if self._connections is not None:
            self._connections.look(now)
        self._on_turn(now)
        return not stopping

    def _collect(self, readable: dict[Any, int]) -> list[Event]:
        """Read everything that is readable. The core looks at its timers after that."""
        events: list[Event] = []
        if self._wake_reader.fileno() in readable:
            self._wake_reader.recv(4096)
        # Read the pipe, then clear the flag, then read the inbox: an event posted after the clearing wakes the loop
        # again. The other way round, a byte written in between would be read while the flag says that it is still
        # there. Cleared in every turn, since a Ctrl-C in the middle of `wake` leaves the flag without a byte.
        self._wake_pending = False
        for channel in self._channels.values():
            if channel.slabs is not None:
                if channel.slabs.hung_up:
                    channel.slabs.forget_departed(self._coordinator.has_left)
                if channel.slabs.fileno() in readable:
                    channel.slabs.handle()
            has_control, has_data = channel.sockets.read(readable)
            if has_control:
                events.extend(self.receiver.control(channel))
            if has_data:
                events.extend(self.receiver.results(channel))
        for fd in [fd for fd in self._watched if fd in readable]:
            self._poller.unregister(fd)
            self._watched.pop(fd)()
        while self._inbox:
            events.append(self._inbox.popleft())
        events.append(Taken(self._ready.removed_total))
        return events

    # ------------------------------------------------------------ performing

    def _perform(self, action: Action) -> Event | None:
        """Perform the action; an event if it failed in a way that the core must know."""
        if isinstance(action, Send):
            return self._send(action.route, action.message)
        if isinstance(action, Deliver):
            self._ready.put(action.epoch, action.positions, action.outcomes)
        elif isinstance(action, EpochExhausted):
            self._on_exhausted(action.epoch)
        elif isinstance(action, EpochEnded):
            self._on_ended(action.epoch)
        elif isinstance(action, FleetFailed):
            self._on_fleet_failed(action)
        elif isinstance(action, Report):
            logger.log(action.level, "%s", action.text)
        elif isinstance(action, Show):
            return self._show(action)
        elif isinstance(action, RemoteLine):
            remote_logger.log(
                action.level, "[%s on %s] %s: %s", action.worker_id, action.host, action.logger, action.text
            )
        return None

    def _show(self, action: Show) -> RouteLost | None:
        try:
            return self._send(action.route, self._make_snapshot(action))
        except Exception:
            # A defect in what is shown must not end the training.
            logger.exception("an observer gets no answer")
            return None

    def _send(self, route: Route, message: Message) -> RouteLost | None:
        send = self._senders.get(route.channel)
        if send is None:
            self._in_process(message)
            return None
        frame = encode_control(self._session, message)
        return None if send(route.address, frame) else RouteLost(route)

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
        """Close all sockets, after the last Stop messages have left or `_LINGER_SECONDS` have passed."""
        routes = self._coordinator.routes
        for channel in self._channels.values():
            if channel.trust is not Trust.LOCAL:
                channel.sockets.wait_for_disconnects(
                    sum(route.channel == channel.name for route in routes), _LINGER_SECONDS
                )
            channel.close(_LINGER_SECONDS)
        self._context.term()
        if self._connections is not None:
            self._connections.close()
        self._wake_reader.close()
        self._wake_writer.close()
