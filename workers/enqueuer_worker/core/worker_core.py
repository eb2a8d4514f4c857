"""The worker's side of the protocol as a pure state machine: events in, actions out.

No socket, thread or clock in here: time is an argument, and `next_deadline` says when `Tick` is wanted. The process
shell performs the actions; the simulated cluster drives hundreds of these with a fake clock.

    OFFLINE ──open──► HELLO ──Welcome──► SERVING ──drain──► DRAINING ──all answered──► LEAVING ──Bye──► GONE
       ▲                │                   │                  │                          │
       └──── link broken, Stop, coordinator silent ────────────┴──────────────────────────┘

Answers are kept until they are acknowledged, so a broken link loses none of them; leases and answers survive a new
link of the same session and are dropped with the session, which ends as well when there was no link for the
coordinator's time-out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from enqueuer.protocol.control_codec import MAX_LEASES
from enqueuer.protocol.messages import (
    NO_ID,
    PROTOCOL_VERSION,
    Bye,
    Drain,
    Epoch,
    ExitCode,
    Failure,
    Goodbye,
    Grant,
    Heartbeat,
    HeartbeatReply,
    Hello,
    LoadFailure,
    Log,
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
    Compute,
    Computed,
    DrainRequested,
    EndpointGiven,
    Event,
    Exit,
    Failed,
    Identity,
    LeaveSharedMemory,
    LinkBroken,
    Loaded,
    LoadFailed,
    Logged,
    Note,
    OpenControl,
    OpenData,
    Policy,
    Prepare,
    Received,
    Send,
    SendResults,
    Tick,
)
from enqueuer_worker.core.unacknowledged import Unacknowledged


class Phase(Enum):
    OFFLINE = auto()
    HELLO = auto()
    SERVING = auto()
    DRAINING = auto()
    LEAVING = auto()
    GONE = auto()


_DEBUG, _INFO, _WARNING, _ERROR = 10, 20, 30, 40
# Before a Welcome says otherwise.
_DEFAULT_HEARTBEAT, _DEFAULT_COORDINATOR_TIMEOUT = 1.0, 30.0
_LINKED = (Phase.SERVING, Phase.DRAINING, Phase.LEAVING)
_UNLINKED_DRAIN_SECONDS = 5.0
# The current epoch, the one prefetched after it, and the one just left.
_EPOCHS_KEPT = 3


@dataclass(slots=True)
class _Session:
    """All that is dropped when the session ends."""

    id: bytes
    welcome: Welcome
    unacknowledged: Unacknowledged
    epochs: dict[tuple[int, int], Epoch] = field(default_factory=dict)
    # Said again when its Epoch comes again: the first one may have been lost with a link.
    prepared: dict[tuple[int, int], Ready | LoadFailure] = field(default_factory=dict)
    generation: int = -1
    queued: dict[int, None] = field(default_factory=dict)
    highest_grant: int = 0
    computed_count: int = 0
    blocks: bool = True

    def held(self) -> tuple[int, ...]:
        # The oldest of very many are left out: at worst they are granted again.
        return tuple(sorted(self.unacknowledged.leases().union(self.queued))[-MAX_LEASES:])


class WorkerCore:
    """One worker's protocol state. `handle` is called by one thread (the worker's I/O thread) only."""

    def __init__(self, identity: Identity, policy: Policy, now: float) -> None:
        self.identity = identity
        self.policy = policy
        self.phase = Phase.OFFLINE
        self._secret = identity.secret
        self._session: _Session | None = None
        self._heartbeat_interval = _DEFAULT_HEARTBEAT
        self._coordinator_timeout = _DEFAULT_COORDINATOR_TIMEOUT
        self._running = 0
        self._round_trip = 0.0
        self._last_handled = now
        self._last_heard = now
        self._open_at = now
        self._heartbeat_at = math.inf
        self._drain_deadline = math.inf
        # Without a link by then, the session and the memory of its batches are given up.
        self._session_ends_at = math.inf
        self._reconnect_interval = policy.first_reconnect_interval
        self._exit_code = ExitCode.DONE
        self._actions: list[Action] = []

    # ------------------------------------------------------------ the two entry points

    def handle(self, events: Iterable[Event], now: float) -> list[Action]:
        """Take events that happened by ``now`` and return what to do, in order."""
        self._shift_deadlines_over_a_gap(now)
        for event in events:
            if self.phase is Phase.GONE:
                break
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event, now)
            else:
                self._handle_answer(event, now)
        if self.phase is not Phase.GONE:
            self._run_timers(now)
        actions, self._actions = self._actions, []
        return actions

    def _handle_answer(self, answer: Any, now: float) -> None:
        """From the compute thread, which may still have been at work for a session that has ended."""
        session = self._session
        if session is not None and answer.session == session.id:
            _ANSWERS[type(answer)](self, session, answer, now)

    def next_deadline(self) -> float:
        """When `handle` wants to be called even if nothing happens."""
        if self.phase is Phase.GONE:
            return math.inf
        if self.phase is Phase.OFFLINE:
            return min(self._open_at, self._drain_deadline, self._session_ends_at)
        silent_at = self._last_heard + self._coordinator_timeout
        resend_at = self._session.unacknowledged.resend_at if self._session and self._linked else math.inf
        return min(self._heartbeat_at, resend_at, self._drain_deadline, self._session_ends_at, silent_at)

    # ------------------------------------------------------------ link and session

    def _open(self, now: float) -> None:
        self._open_at = math.inf
        self.phase = Phase.HELLO
        self._last_heard = now
        self._actions.append(OpenControl())
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
        )
        self._actions.append(Send(session.id if session else NO_ID, hello))
        self._heartbeat_at = now + self.policy.hello_interval

    def _go_offline(self, now: float) -> None:
        """Close the link and plan the next one; the session stays for a while, for a coordinator that is still there.

        After its time-out that has long leased to others what this worker held.
        """
        self._actions.append(CloseLink())
        if self._session is not None:
            self._session_ends_at = min(self._session_ends_at, now + self._coordinator_timeout)
        self.phase = Phase.OFFLINE
        self._heartbeat_at = math.inf
        if self._is_draining:
            # The coordinator may be gone, and with it everyone to bring answers to.
            self._drain_deadline = min(self._drain_deadline, now + _UNLINKED_DRAIN_SECONDS)
        self._open_at = now + self._reconnect_interval
        self._reconnect_interval = min(2 * self._reconnect_interval, self.policy.max_reconnect_interval)

    def _drop_session(self) -> None:
        self._session = None
        self._session_ends_at = math.inf
        self._heartbeat_interval = _DEFAULT_HEARTBEAT
        self._coordinator_timeout = _DEFAULT_COORDINATOR_TIMEOUT
        self._actions.append(Cancel(None))

    def _leave(self, code: ExitCode, *, flush: bool = False) -> None:
        self.phase = Phase.GONE
        self._actions += (CloseLink(flush), Cancel(None), Exit(code))

    def _on_link_broken(self, event: LinkBroken, now: float) -> None:
        if self.phase is Phase.OFFLINE:
            return
        if event.for_good and self.policy.once:
            # Who is to serve one session does not wait for somebody to change the keys.
            self._leave(ExitCode.REFUSED)
            return
        # For a local worker that is how most sessions end; nobody wants to read about it. Of refusals the supervisor,
        # which suffers them as well, says why.
        level = _WARNING if self.policy.reconnects and not event.refused else _DEBUG
        self._actions.append(Note(level, "the connection to the coordinator broke; connecting again"))
        self._go_offline(now)

    def _on_endpoint_given(self, event: EndpointGiven, now: float) -> None:
        if self.phase is not Phase.OFFLINE:
            self._actions.append(CloseLink())
        if self._session is not None:
            self._drop_session()
        self._secret = event.secret
        self._reconnect_interval = self.policy.first_reconnect_interval
        self._open(now)

    # ------------------------------------------------------------ messages

    def _on_received(self, event: Received, now: float) -> None:
        if self.phase is Phase.OFFLINE:
            return  # it came over the link that what came before it has closed
        message = event.message
        self._last_heard = now
        if isinstance(message, Welcome):
            self._on_welcome(event.session, message, now)
        elif isinstance(message, Reject):
            self._on_reject(message)
        elif isinstance(message, WhoAreYou):
            self._say_hello(now)
        elif self._session is not None and event.session == self._session.id:
            handler = _MESSAGE_HANDLERS.get(type(message))
            if handler is not None:
                handler(self, self._session, message, now)

    def _on_welcome(self, session_id: bytes, welcome: Welcome, now: float) -> None:
        if self._session is not None and self._session.id != session_id:
            self._drop_session()
        # A new session has a data channel of its own, even when it is announced on the link of the old one.
        new_link = self.phase is Phase.HELLO or self._session is None
        if self._session is None:
            # It may be one that was given up: then its numbers go on.
            self._session = _Session(
                session_id, welcome, Unacknowledged(welcome.heartbeat_interval, welcome.received_seq)
            )
            self._actions.append(Note(_INFO, "joined a session"))
        session = self._session
        session.welcome = welcome
        self._heartbeat_interval = welcome.heartbeat_interval
        self._coordinator_timeout = welcome.coordinator_timeout
        self._reconnect_interval = self.policy.first_reconnect_interval
        self._session_ends_at = math.inf
        self._heartbeat_at = now + self._heartbeat_interval
        if new_link:
            self.phase = Phase.DRAINING if self._is_draining else Phase.SERVING
            self._actions.append(OpenData(welcome.data_endpoint))
            session.unacknowledged.acknowledge(welcome.received_seq, now)
            self._send_results(session, session.unacknowledged)
            session.unacknowledged.link_opened(now)
            if self.phase is Phase.DRAINING:
                self._actions.append(Send(session.id, Drain()))
                self._say_goodbye_if_done(session, now)

    def _on_reject(self, reject: Reject) -> None:
        self._actions.append(Note(_ERROR, f"the coordinator rejected this worker: {reject.reason}"))
        self._leave(ExitCode.REFUSED)

    def _on_epoch(self, session: _Session, message: Epoch, _now: float) -> None:
        key = (message.epoch, message.generation)
        if key in session.epochs:
            if key in session.prepared:
                self._actions.append(Send(session.id, session.prepared[key]))
            return
        session.epochs[key] = message
        session.generation = max(message.generation, session.generation)
        while len(session.epochs) > _EPOCHS_KEPT:
            oldest = next(iter(session.epochs))
            del session.epochs[oldest]
            session.prepared.pop(oldest, None)
        self._actions.append(Prepare(session.id, session.welcome, message))

    def _on_grant(self, session: _Session, message: Grant, now: float) -> None:
        session.unacknowledged.acknowledge(message.received_seq, now)
        epoch = session.epochs.get((message.epoch, message.generation))
        if epoch is None or self.phase is Phase.LEAVING:
            return
        last = message.first_lease + len(message.indices) - 1
        if message.first_lease <= session.highest_grant:
            return  # a duplicate: lease numbers only grow
        session.highest_grant = last
        session.queued.update(dict.fromkeys(range(message.first_lease, last + 1)))
        self._actions.append(Compute(session.id, epoch, message.first_lease, message.indices))

    def _on_revoke(self, session: _Session, message: Revoke, now: float) -> None:
        dropped = frozenset(lease for lease in message.leases if lease in session.queued and lease != self._running)
        for lease in dropped:
            del session.queued[lease]
        if dropped:
            self._actions.append(Cancel(dropped))
            self._say_goodbye_if_done(session, now)

    def _on_heartbeat_reply(self, session: _Session, message: HeartbeatReply, now: float) -> None:
        if message.sent_at <= now:  # a probe answers no heartbeat and echoes no clock
            self._round_trip = now - message.sent_at
        session.unacknowledged.acknowledge(message.received_seq, now)
        self._send_results(session, session.unacknowledged.below(message.highest_seq))

    def _on_no_blocks(self, session: _Session, _message: NoBlocks, _now: float) -> None:
        if session.blocks:  # else it was said once for each message that was on the way
            session.blocks = False
            self._actions.append(LeaveSharedMemory())
            self._send_results(session, session.unacknowledged)

    def _on_bye(self, _session: _Session, _message: Bye, _now: float) -> None:
        if self._is_draining:
            self._actions.append(Note(_INFO, "drained: all results have arrived"))
            self._leave(self._exit_code)

    def _on_stop(self, _session: _Session, _message: Stop, now: float) -> None:
        self._actions.append(Note(_INFO, "the session has ended"))
        self._drop_session()
        if self._is_draining or (self.policy.once and self.policy.reconnects):
            self._leave(ExitCode.DONE)
            return
        self._go_offline(now)
        if not self.policy.reconnects:
            self._open_at = math.inf  # a local worker waits for its parent to name the next session

    # ------------------------------------------------------------ answers

    def _on_computed(self, session: _Session, event: Computed, now: float) -> None:
        for lease in event.leases:
            session.queued.pop(lease, None)
        session.computed_count += len(event.leases)
        seq = session.unacknowledged.add(event, now)
        if self._linked:
            self._send_results(session, [(seq, event)])
        self._recycle_if_due(session, now)
        self._say_goodbye_if_done(session, now)

    def _on_failed(self, session: _Session, event: Failed, now: float) -> None:
        session.queued.pop(event.lease, None)
        session.computed_count += 1
        # Lost with the link, the lease is in nobody's books and is granted again: no need to keep it.
        if self._linked:
            self._actions.append(Send(session.id, Failure(event.epoch, event.generation, event.lease, event.error)))
        self._recycle_if_due(session, now)
        self._say_goodbye_if_done(session, now)

    def _on_loaded(self, session: _Session, event: Loaded, _now: float) -> None:
        if not session.prepared:
            self._actions.append(Note(_INFO, f"the Sequence is ready: {event.length} batches an epoch"))
        self._say_prepared(session, Ready(event.epoch, event.generation, event.length, event.digest))

    def _on_logged(self, event: Logged, _now: float) -> None:
        session = self._session
        if session is not None and self._linked:
            self._actions.append(Send(session.id, Log(event.level, event.logger, event.text)))

    def _on_load_failed(self, session: _Session, event: LoadFailed, _now: float) -> None:
        # The coordinator decides what that means: nothing, if it has meanwhile given this state up; else Reject.
        self._actions.append(Note(_ERROR, f"the Sequence cannot be built here: {event.error.text}"))
        self._say_prepared(session, LoadFailure(event.epoch, event.generation, event.error))

    def _say_prepared(self, session: _Session, message: Ready | LoadFailure) -> None:
        key = (message.epoch, message.generation)
        if key in session.epochs:
            session.prepared[key] = message
        if self._linked:
            self._actions.append(Send(session.id, message))

    def _send_results(self, session: _Session, answers: Iterable[tuple[int, Computed]]) -> None:
        self._actions.extend(SendResults(session.id, seq, computed, session.blocks) for seq, computed in answers)

    # ------------------------------------------------------------ leaving

    @property
    def _is_draining(self) -> bool:
        return self._drain_deadline < math.inf

    def _on_drain_requested(self, _event: DrainRequested, now: float) -> None:
        if self._is_draining:
            return
        self._start_drain(now)

    def _start_drain(self, now: float) -> None:
        # Without a link there may be no coordinator any more.
        patience = self.policy.drain_timeout if self._linked else _UNLINKED_DRAIN_SECONDS
        self._drain_deadline = now + min(patience, self.policy.drain_timeout)
        if self.phase is Phase.SERVING and self._session is not None:
            self.phase = Phase.DRAINING
            self._actions.append(Send(self._session.id, Drain()))
            self._say_goodbye_if_done(self._session, now)
        elif self._session is None:
            self._leave(self._exit_code)

    def _recycle_if_due(self, session: _Session, now: float) -> None:
        limit = session.welcome.options.get("max_batches")
        if self.phase is Phase.SERVING and isinstance(limit, int) and session.computed_count >= limit:
            self._exit_code = ExitCode.RECYCLE
            self._start_drain(now)

    def _say_goodbye_if_done(self, session: _Session, now: float) -> None:
        if self.phase is Phase.DRAINING and not session.queued:
            self.phase = Phase.LEAVING
            self._actions.append(Send(session.id, Goodbye(session.unacknowledged.sent_seq)))
            self._heartbeat_at = now + self._heartbeat_interval

    # ------------------------------------------------------------ time

    @property
    def _linked(self) -> bool:
        return self.phase in _LINKED

    def _on_tick(self, event: Tick, _now: float) -> None:
        self._running = event.running

    def _shift_deadlines_over_a_gap(self, now: float) -> None:
        """A process that was stopped, or a machine that slept, must not take the pause for the peer's silence."""
        gap = now - self._last_handled - 2 * self._heartbeat_interval
        self._last_handled = now
        if gap > 0:
            self._last_heard += gap

    def _run_timers(self, now: float) -> None:
        if now >= self._drain_deadline:
            self._actions.append(Note(_WARNING, "the drain deadline has come; leaving with leases unanswered"))
            self._leave(self._exit_code)
            return
        if now >= self._session_ends_at:
            self._actions.append(Note(_INFO, "the coordinator does not come back; forgetting its session"))
            self._drop_session()
        if self.phase is Phase.OFFLINE:
            if now >= self._open_at:
                self._open(now)
            return
        if now >= self._last_heard + self._coordinator_timeout:
            self._actions.append(Note(_WARNING, "the coordinator is silent; connecting again"))
            self._go_offline(now)
            return
        if now >= self._heartbeat_at:
            self._beat(now)
        session = self._session
        if session is not None and now >= session.unacknowledged.resend_at and self._linked:
            self._send_results(session, session.unacknowledged.overdue(now))

    def _beat(self, now: float) -> None:
        session = self._session
        if self.phase is Phase.HELLO or session is None:
            self._say_hello(now)
            return
        self._heartbeat_at = now + self._heartbeat_interval
        heartbeat = Heartbeat(
            session.held(),
            session.highest_grant,
            session.generation,
            session.unacknowledged.sent_seq,
            self._running,
            now,
            self._round_trip,
        )
        self._actions.append(Send(session.id, heartbeat))
        # Said until it is heard.
        if self.phase is Phase.DRAINING:
            self._actions.append(Send(session.id, Drain()))
        elif self.phase is Phase.LEAVING:
            self._actions.append(Send(session.id, Goodbye(session.unacknowledged.sent_seq)))


_HANDLERS: dict[type, Any] = {
    Tick: WorkerCore._on_tick,
    Received: WorkerCore._on_received,
    Logged: WorkerCore._on_logged,
    LinkBroken: WorkerCore._on_link_broken,
    DrainRequested: WorkerCore._on_drain_requested,
    EndpointGiven: WorkerCore._on_endpoint_given,
}

_ANSWERS: dict[type, Any] = {
    Computed: WorkerCore._on_computed,
    Failed: WorkerCore._on_failed,
    Loaded: WorkerCore._on_loaded,
    LoadFailed: WorkerCore._on_load_failed,
}

_MESSAGE_HANDLERS: dict[type, Any] = {
    Epoch: WorkerCore._on_epoch,
    Grant: WorkerCore._on_grant,
    Revoke: WorkerCore._on_revoke,
    HeartbeatReply: WorkerCore._on_heartbeat_reply,
    NoBlocks: WorkerCore._on_no_blocks,
    Bye: WorkerCore._on_bye,
    Stop: WorkerCore._on_stop,
}
