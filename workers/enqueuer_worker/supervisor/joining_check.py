"""Whether a worker on this host can join the trainer at an address: tried with its own keys, without joining."""

from __future__ import annotations

import time

import zmq

from enqueuer.security.keys import WorkerToken
from enqueuer.transport.sockets import new_context
from enqueuer_worker.connection import Connection, Refusal
from enqueuer_worker.supervisor.reachability import Finding, look, no_answer, unknown_key
from enqueuer_worker.trainer_addresses import split_address

_POLL_MS = 50
# A socket of another kind hangs up right after the handshake.
_SETTLED_SECONDS = 0.5


def why_not(address: str, token: WorkerToken | None, timeout: float) -> Finding | None:
    """The reason why the trainer at 'tcp://host:port' does not let a worker with this token in; None: it does.

    ``timeout`` is for the handshake, in seconds; a look at what answers there takes some seconds more.
    """
    # A plain connection shows most reasons at once, without the patience that a handshake needs.
    reason = look(address, None, has_token=token is not None)
    if reason is not None:
        return reason
    refusal, has_met = _shake_hands(address, token, timeout)
    if has_met:
        return None
    host, port = split_address(address)
    if refusal is Refusal.KEY:
        return unknown_key(f"{host}:{port}")
    return look(address, refusal, has_token=token is not None) or no_answer(f"{host}:{port}")


def _shake_hands(address: str, token: WorkerToken | None, timeout: float) -> tuple[Refusal | None, bool]:
    """How ZeroMQ's handshake was refused, and whether it succeeded."""
    context, poller = new_context(), zmq.Poller()
    connection = Connection(context, poller, zmq.DEALER, address, int(timeout * 1000), token)
    end = time.monotonic() + timeout
    try:
        while not connection.broken and time.monotonic() < end:
            connection.read_lookup(dict(poller.poll(_POLL_MS)))
            was_connected = connection.connected
            connection.read_monitor()
            if connection.connected and not was_connected:
                end = time.monotonic() + _SETTLED_SECONDS
        if connection.broken and (token is None or connection.connected):
            # Where keys have no part, only kinds of sockets can be unfit. libzmq tells it by one of several events.
            return Refusal.SOCKET, False
        return connection.refusal, connection.connected
    finally:
        connection.close()
        context.term()
