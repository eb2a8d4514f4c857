"""Offences: acts of no honest peer. Each is named in the log and counted; too many ban the peer.

An honest worker cannot come to commit one, whatever the network loses, doubles, delays or reorders: to answer another
worker's lease, or to answer a lease again in a message of its own. A late answer is no offence, nor is a result message
received twice. The simulated cluster holds this: not one offence in all its schedules.

A banned peer's leases are granted to others, it is told Reject, and nothing from its connection or its incarnation is
read any more. An impersonation bans at once: the impersonated peer must not suffer for it.
"""

from __future__ import annotations

import sys

from enqueuer.core.actions import ERROR, WARNING
from enqueuer.core.events import Route
from enqueuer.core.peer import OFFENCES_LIMIT, PeerRecord
from enqueuer.core.state import State
from enqueuer.core.worker import Worker, WorkerState
from enqueuer.protocol.messages import Heartbeat, Hello, Reject, Role

# Longer compute times are made up. Days are possible: one clock may stop in a suspended machine while another goes on.
_LONGEST_SECONDS = 86_400.0
# A key is 64 characters; this much is its fingerprint, as in the key directory.
_KEY_SHOWN = 8


# ---------------------------------------------------------------- reporting and banning


def report_offence(state: State, peer: Worker | Route, offence: str) -> None:
    """Count an offence of this worker, or of the peer at this route; ban it after one too many."""
    worker = peer if isinstance(peer, Worker) else state.fleet.at(peer)
    record = worker.peer if worker is not None else record_at(state, peer)  # type: ignore[arg-type]
    if not _note(state, record, offence):
        return
    if worker is not None:
        _ban_worker(state, worker, offence)
    elif isinstance(peer, tuple):
        state.peers.ban(peer)
        state.send(peer, Reject(f"it {offence}"))
        state.fleet.supervisors.pop(peer, None)


def report_key(state: State, key: str, offence: str) -> None:
    """Count an offence of a peer known only by its key. Other peers may have the same key, so there is no ban."""
    name = f"an owner of key {key[:_KEY_SHOWN]}" if key else "somebody without a key"
    _note(state, state.peers.offender(name) or PeerRecord(name, limit=sys.maxsize), offence)


def record_at(state: State, route: Route) -> PeerRecord:
    """The record of the peer at this route, identified or not."""
    peer = state.fleet.at(route) or state.fleet.supervisors.get(route)
    return state.peers.unidentified(route) if peer is None else peer.peer


def ban_impersonator(state: State, route: Route, hello: Hello, key: str) -> bool:
    """Ban the peer at this route at once if its Hello claims another peer's identity; True if it does."""
    claim = _impersonation(state, route, hello, key)
    if claim is None:
        return False
    record = record_at(state, route)
    if not record.is_identified:
        record.identify(f"{hello.role.name.lower()} {hello.worker_id} on {hello.host}")
    record.offences_count = max(record.offences_count, OFFENCES_LIMIT - 1)
    report_offence(state, route, claim)
    return True


def _note(state: State, record: PeerRecord, offence: str) -> bool:
    """Count and log one more offence; True if the peer is to be banned for it."""
    state.peers.note_offence(record)
    if record.banned:
        return False
    if record.offences_count < record.limit:
        if record.offences_count <= OFFENCES_LIMIT and record.is_identified:
            state.report(WARNING, f"{record.name} {offence}")
        return False
    record.banned = True
    state.report(ERROR, f"cut off {record.name} after {record.offences_count} offences; the last: it {offence}")
    return True


def _ban_worker(state: State, worker: Worker, offence: str) -> None:
    state.peers.ban(worker.incarnation)
    if worker.route is not None:
        state.peers.ban(worker.route)
    if worker.state is not WorkerState.GONE:
        state.dismiss(worker, Reject(f"it {offence}"))


# ---------------------------------------------------------------- judging: the offence as text, or None


def _impersonation(state: State, route: Route, hello: Hello, key: str) -> str | None:
    """The false claim of a Hello.

    An incarnation and a supervisor's id are random and known to their owners alone. A Hello that repeats one
    is believed if everything else in it is the same, the key above all.
    """
    fleet = state.fleet
    worker = fleet.find(hello.incarnation)
    if worker is not None and not worker.is_described_by(hello, route, key):
        return f"claims to be {worker.name}"
    present = fleet.at(route)
    if present is not None and (present is not worker or hello.role is Role.SUPERVISOR):
        return f"claims to be another one than {present.name}, on the same connection"
    known = fleet.supervisors.get(route)
    if known is not None and (hello.role is Role.WORKER or hello.supervisor != known.id):
        return "claims to be another one than the supervisor it was, on the same connection"
    if hello.supervisor and key != fleet.key_of_supervisor(hello.supervisor, key):
        return "claims another one's supervisor"
    return None


def wrong_answer(state: State, worker: Worker, lease: int, *, is_current: bool, is_numbered: bool) -> str | None:
    """The offence in an answer that was not taken; None for a merely late one.

    ``is_current``: it names an open epoch's state. ``is_numbered``: it came in a numbered result message, so it is no
    copy of an earlier one; a Failure has no number.
    """
    if worker.in_process:
        return None
    if lease >= state.ledger.next_lease:
        return f"answered lease {lease}, which was never granted"
    entry = state.ledger.find(lease)
    if entry is not None and entry[2].incarnation != worker.incarnation:
        return f"answered lease {lease} of {entry[2].name}"
    if entry is None and is_current and is_numbered:
        return f"answered lease {lease}, which was answered before"
    return None


def wrong_heartbeat(state: State, worker: Worker, message: Heartbeat) -> str | None:
    """The offence in a heartbeat's round trip or list of leases."""
    if (offence := wrong_seconds(worker, message.round_trip, state.now)) is not None:
        return offence
    for lease in message.held:
        if lease >= state.ledger.next_lease:
            return f"says that it holds lease {lease}, which was never granted"
        entry = state.ledger.find(lease)
        if entry is not None and entry[2].incarnation != worker.incarnation:
            return f"says that it holds lease {lease} of {entry[2].name}"
    return None


def wrong_seconds(worker: Worker, seconds: float, now: float) -> str | None:
    """The offence in a compute time or a round trip."""
    if seconds - (now - worker.known_since) > _LONGEST_SECONDS:
        return f"says that something took {seconds:.3g} s"
    return None
