"""A supervisor's connection to the coordinator: it reports deaths at once, and which children are alive.

    death ──► unsent ── Welcome ──► sent, unheard ── reply to a later Children ──► forgotten
                 ▲                        │
                 └── link lost, WhoAreYou ┘

The coordinator answers each `Children` with a HeartbeatReply. One connection keeps its order, so the reply confirms
each `WorkerExited` sent before that `Children`. Unconfirmed ones are sent again over the next link.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import zmq

from enqueuer import __version__
from enqueuer.errors import ProtocolError
from enqueuer.protocol.control_codec import decode_control, encode_control
from enqueuer.protocol.messages import (
    NO_ID,
    PROTOCOL_VERSION,
    Children,
    HeartbeatReply,
    Hello,
    Message,
    Reject,
    Role,
    Stop,
    Welcome,
    WhoAreYou,
    WorkerExited,
)
from enqueuer.security.curve import parse_passed_token
from enqueuer.transport.sockets import new_context
from enqueuer_worker.link import new_link
from enqueuer_worker.repeats import RepeatedNotes
from enqueuer_worker.settings import Settings
from enqueuer_worker.supervisor.diagnosis import Diagnosis

_HELLO_INTERVAL = 1.0
_FIRST_RECONNECT_INTERVAL = 0.1
# Older deaths are of no use to the next coordinator.
_UNSENT_LIMIT = 1024


class SupervisorLink:
    """One DEALER: says Hello, reports, and is opened again after each loss. Only the supervisor's thread uses it."""

    def __init__(
        self, settings: Settings, poller: zmq.Poller, logger: logging.Logger, notes: RepeatedNotes, now: float
    ) -> None:
        self._settings = settings
        self._logger = logger
        self._notes = notes
        self._context = new_context()
        token = parse_passed_token(settings.token)
        retry_ms = int(settings.max_reconnect_interval * 1000)
        self._link = new_link(self._context, poller, settings.connect, retry_ms, token, interface=settings.interface)
        self._diagnosis = Diagnosis(notes, settings.connect, has_token=token is not None, interface=settings.interface)
        self._session = NO_ID
        # Whether the coordinator has ended a session of this supervisor.
        self.has_served = False
        self._incarnation = os.urandom(16)
        self._heartbeat_interval = settings.heartbeat_interval
        # The session's batch_timeout; None outside of a session: the leases may then be an earlier session's.
        self.batch_timeout: float | None = None
        self._unsent: deque[WorkerExited] = deque(maxlen=_UNSENT_LIMIT)
        # Each with the count of Children messages sent before it.
        self._unheard: deque[tuple[int, WorkerExited]] = deque(maxlen=_UNSENT_LIMIT)
        self._beats_count = 0
        self._replies_count = 0
        self._reconnect_interval = _FIRST_RECONNECT_INTERVAL
        self._open_at = now
        self._beat_at = math.inf

    @property
    def in_session(self) -> bool:
        """Whether a coordinator has welcomed this supervisor."""
        return self._session != NO_ID

    @property
    def is_refused_for_good(self) -> bool:
        """Whether the trainer refuses this machine for a reason that another attempt cannot change."""
        return self._diagnosis.is_final

    def next_deadline(self, now: float) -> float:
        """When `handle` is to be called even if nothing is ready."""
        return min(self._open_at, self._beat_at, self._diagnosis.next_deadline(now))

    def report_exit(self, exited: WorkerExited) -> None:
        """Report a death now, or after the next Welcome; again if the link breaks before the coordinator heard it."""
        self._unsent.append(exited)
        self._send_exits()

    def change_session(self, settings: Settings, now: float) -> None:
        """Leave the session and connect to another address with another secret."""
        self._settings = settings
        self._link.address = settings.connect
        self._reconnect_interval = _FIRST_RECONNECT_INTERVAL
        self._lose(now)
        self._unsent.clear()
        self._open_at = now

    def handle(self, ready: dict[Any, int], alive: Callable[[], Iterable[bytes]], now: float) -> None:
        """Handle messages and deadlines. ``alive`` returns the incarnations of the live children."""
        for frame in self._link.handle(ready):
            try:
                session, message = decode_control(frame)
            except ProtocolError as error:
                self._logger.warning("dropped a message that cannot be read: %s", error)
                continue
            self._on_message(session, message, now)
        if self._link.broken:
            self._note_loss(now)
            self._lose(now)
        if self._settings.reconnects:
            self._note_retries(now)
            control = self._link.control
            self._diagnosis.handle(now, is_connected=control is not None and control.connected)
        if now >= self._open_at:
            self._open(now)
        elif now >= self._beat_at:
            self._beat(alive, now)

    def close(self) -> None:
        """Close the connection; the last messages get a second to leave."""
        self._link.close(flush=True)
        self._context.term()

    # ------------------------------------------------------------ messages

    def _on_message(self, session: bytes, message: Message, now: float) -> None:
        if isinstance(message, Welcome):
            if session != self._session:
                self._logger.info("joined a session at %s", self._link.address)
                self._diagnosis.answered()
            self._session = session
            self.batch_timeout = self._read_timeout(message)
            self._heartbeat_interval = message.heartbeat_interval
            self._reconnect_interval = _FIRST_RECONNECT_INTERVAL
            self._beat_at = now
            self._send_exits()
        elif isinstance(message, HeartbeatReply) and session == self._session:
            self._replies_count += 1
            while self._unheard and self._unheard[0][0] < self._replies_count:
                self._unheard.popleft()
        elif isinstance(message, WhoAreYou):
            # The coordinator has dropped the reports sent so far, as it did not know their sender.
            self._report_again()
            self._say_hello(now)
        elif isinstance(message, Reject):
            self._diagnosis.answered()
            self._notes.note_rejection(message.reason, now)
            self._lose(now)
            self._open_at = now + self._settings.max_reconnect_interval
        elif isinstance(message, Stop) and session == self._session:
            self._logger.info("the session has ended")
            self.has_served = True
            self._lose(now)
            if self._settings.once or not self._settings.reconnects:
                # Until the trainer names the address of the next session. With `once` there is none.
                self._open_at = math.inf

    def _read_timeout(self, welcome: Welcome) -> float | None:
        timeout = welcome.options.get("batch_timeout")
        if timeout is None:
            return None
        if isinstance(timeout, bool) or not isinstance(timeout, (float, int)) or not 0 < timeout < math.inf:
            self._logger.warning("the trainer's batch_timeout is not a number of seconds; there is no time limit")
            return None
        return float(timeout)

    def _say_hello(self, now: float) -> None:
        settings = self._settings
        hello = Hello(
            protocol=PROTOCOL_VERSION,
            role=Role.SUPERVISOR,
            worker_id=settings.name,
            incarnation=self._incarnation,
            supervisor=bytes.fromhex(settings.supervisor),
            child_number=0,
            host=socket.gethostname(),
            pid=os.getpid(),
            numpy_version="",
            library_version=__version__,
            secret=bytes.fromhex(settings.secret),
            held=(),
            sent_seq=0,
        )
        self._link.send_control(encode_control(self._session, hello), replaces_waiting=True)
        self._beat_at = now + _HELLO_INTERVAL

    def _send_exits(self) -> None:
        while self._unsent and self._session != NO_ID:
            exited = self._unsent.popleft()
            self._link.send_control(encode_control(self._session, exited))
            self._unheard.append((self._beats_count, exited))

    # ------------------------------------------------------------ time

    def _open(self, now: float) -> None:
        self._logger.debug("connecting to %s", self._link.address)
        self._open_at = math.inf
        self._link.open_control()
        if self._settings.reconnects:
            self._diagnosis.opened(now)
        self._say_hello(now)

    def _lose(self, now: float) -> None:
        if self.in_session:
            # Not when the session begins: it may have rejected a worker before it welcomes this supervisor.
            self._notes.forget()
        self._link.close()
        self._report_again()
        self._beats_count = self._replies_count = 0
        self._session = NO_ID
        self.batch_timeout = None
        self._beat_at = math.inf
        self._open_at = now + self._reconnect_interval
        self._reconnect_interval = min(2 * self._reconnect_interval, self._settings.max_reconnect_interval)

    def _report_again(self) -> None:
        """Put unconfirmed reports back among the unsent ones."""
        self._unsent.extendleft(exited for _, exited in reversed(self._unheard))
        self._unheard.clear()

    def _beat(self, alive: Callable[[], Iterable[bytes]], now: float) -> None:
        if self._session == NO_ID:
            self._say_hello(now)
            return
        self._beat_at = now + self._heartbeat_interval
        self._beats_count += 1
        self._link.send_control(encode_control(self._session, Children(tuple(alive()))))

    def _note_loss(self, now: float) -> None:
        if not self._settings.reconnects:
            self._logger.debug("the trainer is gone")  # most sessions of a local supervisor end like this
        elif self.in_session and self._link.refusal is None:
            self._logger.warning("the trainer is gone; trying again in %g s", self._reconnect_interval)
        else:
            self._diagnosis.failed(self._link.refusal, now)

    def _note_retries(self, now: float) -> None:
        control = self._link.control
        if control is not None and control.retrying is not None:
            control.retrying = None
            self._diagnosis.failed(None, now)
