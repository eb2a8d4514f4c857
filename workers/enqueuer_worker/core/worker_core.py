"""The worker's side of the protocol as a pure state machine: events in, actions out.

No socket, thread or clock is in here: time is an argument, and `next_deadline` says when a `Tick` is due. The I/O loop
performs the actions; the simulated cluster drives hundreds of these machines with a fake clock. `phase` draws the way
from the first link to the end.

A *link* is one pair of connections, a *session* one start of a trainer. The session survives a lost link: the worker
goes on computing, says Hello over the next link with the leases it holds, and sends unacknowledged results again
(`Session`). After the coordinator's time-out without a link it gives the session up, as the coordinator has then long
granted those leases to others. A drain survives a lost link as well: a Welcome leads to DRAINING then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from enqueuer.errors import AuthenticationError
from enqueuer.protocol.messages import (
    NO_ID,
    PROTOCOL_VERSION,
    Bye,
    Drain,
    Epoch,
    ExitCode,
    Goodbye,
    Grant,
    HeartbeatReply,
    Hello,
    LoadFailure,
    Log,
    Message,
    NoBlocks,
    Ready,
    Reject,
    Revoke,
    Role,
    Stop,
    Welcome,
    WhoAreYou,
)
from enqueuer_worker.core.events import (
    Action,
    Cancel,
    CloseLink,
    Computed,
    DrainRequested,
    EndpointGiven,
    Event,
    Exit,
    Failed,
    Identity,
    LinkBroken,
    Loaded,
    LoadFailed,
    Logged,
    Note,
    OpenControl,
    OpenData,
    Received,
    Send,
    Tick,
)
from enqueuer_worker.core.link_timers import LinkTimers
from enqueuer_worker.core.phase import LINKED, TRANSITIONS, Phase
from enqueuer_worker.core.policy import Policy
from enqueuer_worker.core.session import Session

_DEBUG, _INFO, _WARNING, _ERROR = 10, 20, 30, 40
_UNLINKED_DRAIN_SECONDS = 5.0


class WorkerCore:
    """The protocol state of one worker. Only the I/O loop calls it."""

    def __init__(self, identity: Identity, policy: Policy, now: float) -> None:
        self.identity = identity
        self.policy = policy
        # Written by `_move_to` only.
        self.phase = Phase.OFFLINE
        # A local worker gets another one with each session.
        self._secret = identity.secret
        self._session: Session | None = None
        self._exit_code = ExitCode.DONE
        # Why the Sequence could not be built here: part of the reason when the coordinator rejects the worker for it.
        self._load_error = ""
        # Logged with the first grant: a worker whose Sequence the coordinator rejects gets none.
        self._ready_note = ""
        # The lease being computed, as of the last Tick; 0 for none.
        self._running = 0
        self._round_trip = 0.0
        self._timers = LinkTimers(policy, now)
        # Deadlines; infinite where there is none. The end of a drain, answered or not; finite while one is going on.
        self._drain_deadline = math.inf
        # The end of a session without a link.
        self._session_ends_at = math.inf
        # Collected during one `handle`.
        self._actions: list[Action] = []

    # ------------------------------------------------------------ the two entry points

    def handle(self, events: Iterable[Event], now: float) -> list[Action]:
        """Take events that happened by ``now`` and return the actions to perform, in order."""
        self._timers.shift_over_a_gap(now)
        for event in events:
            if self.phase is Phase.GONE:
                break
            _EVENTS[type(event)](self, event, now)
        if self.phase is not Phase.GONE:
            self._run_timers(now)
        actions, self._actions = self._actions, []
        return actions

    def next_deadline(self) -> float:
        """When `handle` is to be called even if nothing happens."""
        if self.phase is Phase.GONE:
            return math.inf
        if self.phase is Phase.OFFLINE:
            return min(self._timers.open_at, self._drain_deadline, self._session_ends_at)
        resend_at = self._session.unacknowledged.resend_at if self._session and self._is_linked else math.inf
        return min(
            self._timers.heartbeat_at, self._timers.silent_at, resend_at, self._drain_deadline, self._session_ends_at
        )

    @property
    def heartbeat_at(self) -> float:
        """When the next heartbeat, or Hello, is due."""
        return self._timers.heartbeat_at

    # ------------------------------------------------------------ phases, links and sessions

    def _move_to(self, phase: Phase) -> None:
        if phase not in TRANSITIONS[self.phase]:
            raise ValueError(f"a worker cannot go from {self.phase} to {phase}")
        self.phase = phase

    @property
    def _is_linked(self) -> bool:
        return self.phase in LINKED

    @property
    def _told_level(self) -> int:
        """The log level of a rejection: low where another process reports it.

        A remote supervisor tells it once for all its workers. If a local worker cannot build the Sequence, the trainer
        raises the error.
        """
        return _DEBUG if self.policy.reconnects or self._load_error else _ERROR

    @property
    def _is_draining(self) -> bool:
        return self._drain_deadline < math.inf

    def _do(self, *actions: Action) -> None:
        self._actions += actions

    def _send(self, session: Session, *messages: Message) -> None:
        self._do(*(Send(session.id, message) for message in messages))

    def _note(self, level: int, text: str) -> None:
        self._do(Note(level, text))

    def _open(self, now: float) -> None:
        self._move_to(Phase.HELLO)
        self._timers.link_opened(now)
        self._do(OpenControl())
        self._say_hello(now)

    def _say_hello(self, now: float) -> None:
        session = self._session
        identity = self.identity
        hello = Hello(
            PROTOCOL_VERSION,
            Role.WORKER,
            identity.worker_id,
            identity.incarnation,
            identity.supervisor,
            identity.child_number,
            identity.host,
            identity.pid,
            identity.numpy_version,
            identity.enqueuer_version,
            self._secret,
            session.held() if session else (),
            session.unacknowledged.sent_seq if session else 0,
            identity.python_version,
        )
        self._do(Send(session.id if session else NO_ID, hello))
        self._timers.said_hello(now)

    def _go_offline(self, now: float) -> None:
        """Close the link and plan the next one. The session stays for the coordinator's time-out."""
        self._move_to(Phase.OFFLINE)
        self._do(CloseLink())
        if self._session is not None:
            self._session_ends_at = min(self._session_ends_at, now + self._timers.coordinator_timeout)
        if self._is_draining:
            # The coordinator may be gone for good.
            self._drain_deadline = min(self._drain_deadline, now + _UNLINKED_DRAIN_SECONDS)
        self._timers.link_closed(now)

    def _drop_session(self) -> None:
        self._session = None
        self._session_ends_at = math.inf
        self._timers.session_dropped()
        self._do(Cancel(None))

    def _leave(self, code: ExitCode, rejection: str = "") -> None:
        self._move_to(Phase.GONE)
        self._do(CloseLink(), Cancel(None), Exit(code, rejection))

    def _on_link_broken(self, event: LinkBroken, now: float) -> None:
        if self.phase is Phase.OFFLINE:
            return
        if event.for_good and self.policy.once:
            # A worker for one session does not wait for a change of keys.
            self._leave(ExitCode.REFUSED)
            return
        # Most sessions of a local worker end like this. Before an answer, and when it is refused, the supervisor meets
        # the same and logs the reason, once for all attempts.
        level = _WARNING if self.policy.reconnects and not event.refused and self._is_linked else _DEBUG
        self._note(level, "the connection to the trainer broke; connecting again")
        self._go_offline(now)

    def _on_endpoint_given(self, event: EndpointGiven, now: float) -> None:
        if self.phase is not Phase.OFFLINE:
            self._move_to(Phase.OFFLINE)
            self._do(CloseLink())
        if self._session is not None:
            self._drop_session()
        self._secret = event.secret
        self._timers.reset_reconnect_interval()
        self._open(now)

    # ------------------------------------------------------------ messages

    def _on_received(self, event: Received, now: float) -> None:
        if self.phase is Phase.OFFLINE:
            return  # an earlier event of this call has closed the link of this message
        self._timers.last_heard = now
        match event.message:
            case Welcome() as welcome:
                self._on_welcome(event.session, welcome, now)
            case Reject(reason):
                self._note(self._told_level, f"the trainer rejected this worker: {reason}")
                self._leave(ExitCode.REFUSED, f"{reason}: {self._load_error}" if self._load_error else reason)
            case WhoAreYou():
                self._say_hello(now)
            case message:
                self._handle_in_session(event.session, message, now)

    def _on_answer(self, event: Computed | Failed | Loaded | LoadFailed, now: float) -> None:
        """Handle an answer of the compute thread, perhaps a late one of an earlier session."""
        self._handle_in_session(event.session, event, now)

    def _handle_in_session(self, session_id: bytes, item: Any, now: float) -> None:
        """Handle a message or an answer, if it belongs to the current session."""
        session, handler = self._session, _IN_SESSION.get(type(item))
        if session is not None and session.id == session_id and handler is not None:
            handler(self, session, item, now)

    def _on_welcome(self, session_id: bytes, welcome: Welcome, now: float) -> None:
        if self._session is not None and self._session.id != session_id:
            self._drop_session()
        # A new session has a data channel of its own, even when it is announced on the link of the old one.
        opens_data = self.phase is Phase.HELLO or self._session is None
        if self._session is None:
            self._session = Session.joined(session_id, welcome)
            self._note(_DEBUG, "joined a session")
        session = self._session
        session.welcome = welcome
        self._session_ends_at = math.inf
        self._timers.welcomed(welcome, now)
        if not opens_data:
            return
        self._move_to(Phase.DRAINING if self._is_draining else Phase.SERVING)
        self._do(OpenData(welcome.data_endpoint))
        session.unacknowledged.acknowledge(welcome.received_seq, now)
        self._actions += session.results(session.unacknowledged)
        session.unacknowledged.link_opened(now)
        if self.phase is Phase.DRAINING:
            self._send(session, Drain())
            self._say_goodbye_if_done(session, now)

    def _on_epoch(self, session: Session, message: Epoch, _now: float) -> None:
        self._actions += session.announce(message)

    def _on_grant(self, session: Session, message: Grant, now: float) -> None:
        session.unacknowledged.acknowledge(message.received_seq, now)
        if self._ready_note:
            self._note(_INFO, self._ready_note)
            self._ready_note = ""
        if self.phase is not Phase.LEAVING:
            self._actions += session.grant(message)

    def _on_revoke(self, session: Session, message: Revoke, now: float) -> None:
        self._actions += session.revoke(message.leases, self._running)
        self._say_goodbye_if_done(session, now)

    def _on_heartbeat_reply(self, session: Session, message: HeartbeatReply, now: float) -> None:
        if message.sent_at <= now:  # a probe answers no heartbeat and echoes no clock
            self._round_trip = now - message.sent_at
        session.unacknowledged.acknowledge(message.received_seq, now)
        self._actions += session.results(session.unacknowledged.below(message.highest_seq))

    def _on_no_blocks(self, session: Session, _message: NoBlocks, _now: float) -> None:
        self._actions += session.leave_shared_memory()

    def _on_bye(self, _session: Session, _message: Bye, _now: float) -> None:
        if self._is_draining:
            self._note(_INFO, "drained: all results have arrived")
            self._leave(self._exit_code)

    def _on_stop(self, _session: Session, _message: Stop, now: float) -> None:
        self._note(_INFO, "the session has ended")
        self._drop_session()
        if self._is_draining or (self.policy.once and self.policy.reconnects):
            self._leave(ExitCode.DONE)
            return
        self._go_offline(now)
        if not self.policy.reconnects:
            self._timers.open_at = math.inf  # a local worker waits for its supervisor to name the next session

    # ------------------------------------------------------------ answers of the compute thread

    def _on_computed(self, session: Session, event: Computed, now: float) -> None:
        results = session.add_results(event, now)
        if self._is_linked:
            self._actions += results
        self._finish_if_due(session, now)

    def _on_failed(self, session: Session, event: Failed, now: float) -> None:
        failure = session.add_failure(event)
        if self._is_linked:
            self._actions += failure
        self._finish_if_due(session, now)

    def _on_loaded(self, session: Session, event: Loaded, _now: float) -> None:
        self._load_error = ""
        if not session.prepared:
            self._ready_note = f"the Sequence is ready: {event.length} batches an epoch"
        ready = Ready(event.epoch, event.generation, event.length, event.digest, event.allows_skew, event.settings)
        self._answer_epoch(session, ready)

    def _on_load_failed(self, session: Session, event: LoadFailed, _now: float) -> None:
        # The coordinator decides what follows: nothing if it has given this state up meanwhile, otherwise a Reject.
        error = event.error
        # The trainer logs it with the traceback; the error of a local worker it raises itself.
        self._note(_DEBUG, f"the Sequence cannot be built here: {error.summary}")
        # The traceback of this library's own refusal says nothing to the worker's owner.
        is_ours = error.module == AuthenticationError.__module__
        self._load_error = error.text if is_ours else f"{error.summary}\n{error.traceback}".rstrip()
        self._answer_epoch(session, LoadFailure(event.epoch, event.generation, event.error))

    def _answer_epoch(self, session: Session, answer: Ready | LoadFailure) -> None:
        prepared = session.add_prepared(answer)
        if self._is_linked:
            self._actions += prepared

    def _on_logged(self, event: Logged, _now: float) -> None:
        if self._session is not None and self._is_linked:
            self._send(self._session, Log(event.level, event.logger, event.text))

    # ------------------------------------------------------------ leaving

    def _on_drain_requested(self, _event: DrainRequested, now: float) -> None:
        if not self._is_draining:
            self._start_drain(now)

    def _start_drain(self, now: float) -> None:
        # Without a link the coordinator may be gone for good.
        longest = math.inf if self._is_linked else _UNLINKED_DRAIN_SECONDS
        self._drain_deadline = now + min(self.policy.drain_timeout, longest)
        if self._session is None:
            self._leave(self._exit_code)
        elif self.phase is Phase.SERVING:
            self._move_to(Phase.DRAINING)
            self._send(self._session, Drain())
            self._say_goodbye_if_done(self._session, now)

    def _finish_if_due(self, session: Session, now: float) -> None:
        """After an answer: leave if it was the last one of the drain, or of this process's share."""
        if self.phase is Phase.SERVING and session.has_computed_its_share:
            self._exit_code = ExitCode.RECYCLE
            self._start_drain(now)
        self._say_goodbye_if_done(session, now)

    def _say_goodbye_if_done(self, session: Session, now: float) -> None:
        if self.phase is Phase.DRAINING and not session.queued:
            self._move_to(Phase.LEAVING)
            self._send(session, Goodbye(session.unacknowledged.sent_seq))
            self._timers.said_alive(now)

    # ------------------------------------------------------------ time

    def _on_tick(self, event: Tick, _now: float) -> None:
        self._running = event.running

    def _run_timers(self, now: float) -> None:
        if now >= self._drain_deadline:
            self._note(_WARNING, "the drain deadline has come; leaving with leases unanswered")
            self._leave(self._exit_code)
            return
        if now >= self._session_ends_at:
            self._note(_INFO, "the trainer does not come back; forgetting its session")
            self._drop_session()
        if self.phase is Phase.OFFLINE:
            if now >= self._timers.open_at:
                self._open(now)
            return
        if now >= self._timers.silent_at:
            # Before an answer it is a trainer that does not run, or not yet: a remote worker's supervisor says so.
            level = _DEBUG if not self._is_linked and self.policy.reconnects else _WARNING
            self._note(level, "the trainer is silent; connecting again")
            self._go_offline(now)
            return
        if now >= self._timers.heartbeat_at:
            self._beat(now)
        session = self._session
        if session is not None and now >= session.unacknowledged.resend_at and self._is_linked:
            self._actions += session.results(session.unacknowledged.overdue(now))

    def _beat(self, now: float) -> None:
        session = self._session
        if self.phase is Phase.HELLO or session is None:
            self._say_hello(now)
            return
        self._timers.said_alive(now)
        self._send(session, session.heartbeat(self._running, now, self._round_trip))
        # Repeated until the coordinator acts on it.
        if self.phase is Phase.DRAINING:
            self._send(session, Drain())
        elif self.phase is Phase.LEAVING:
            self._send(session, Goodbye(session.unacknowledged.sent_seq))


# Events by type.
_EVENTS: dict[type, Callable[[WorkerCore, Any, float], None]] = {
    Tick: WorkerCore._on_tick,
    Received: WorkerCore._on_received,
    Computed: WorkerCore._on_answer,
    Failed: WorkerCore._on_answer,
    Loaded: WorkerCore._on_answer,
    LoadFailed: WorkerCore._on_answer,
    Logged: WorkerCore._on_logged,
    LinkBroken: WorkerCore._on_link_broken,
    DrainRequested: WorkerCore._on_drain_requested,
    EndpointGiven: WorkerCore._on_endpoint_given,
}

# Messages and answers of the current session, by type. All other messages are ignored: no coordinator sends them.
_IN_SESSION: dict[type, Callable[[WorkerCore, Session, Any, float], None]] = {
    Epoch: WorkerCore._on_epoch,
    Grant: WorkerCore._on_grant,
    Revoke: WorkerCore._on_revoke,
    HeartbeatReply: WorkerCore._on_heartbeat_reply,
    NoBlocks: WorkerCore._on_no_blocks,
    Bye: WorkerCore._on_bye,
    Stop: WorkerCore._on_stop,
    Computed: WorkerCore._on_computed,
    Failed: WorkerCore._on_failed,
    Loaded: WorkerCore._on_loaded,
    LoadFailed: WorkerCore._on_load_failed,
}
