"""Whether a worker can join: a real handshake with its keys."""

from __future__ import annotations

from pathlib import Path

import zmq

from enqueuer.security.gatekeeper import Gatekeeper
from enqueuer.security.key_directory import KeyDirectory
from enqueuer.security.keys import read_token
from enqueuer.transport.sockets import CoordinatorSockets, configure, new_context
from enqueuer_worker.supervisor.joining_check import why_not
from tests.support.remote import free_address


def test_a_trainer_without_keys_lets_each_worker_in_and_no_trainer_is_told() -> None:
    context, address = new_context(), free_address()
    sockets = CoordinatorSockets(context, address, f"{address.rpartition(':')[0]}:*")
    try:
        assert why_not(address, None, 30.0) is None
        with_wrong_socket = why_not(sockets.data_endpoint, None, 30.0)
        assert with_wrong_socket is not None and "not the one for workers" in with_wrong_socket.summary
    finally:
        sockets.close()
        context.term()
    reason = why_not(address, None, 30.0)
    assert reason is not None and "the connection is refused" in reason.summary


def test_a_token_of_other_keys_is_told(tmp_path: Path) -> None:
    directories = [KeyDirectory(tmp_path / name) for name in ("ours", "others")]
    for directory in directories:
        directory.create()
    ours, others = (read_token(directory.token_file("worker")) for directory in directories)
    context, address = new_context(), free_address()
    gate = Gatekeeper(context, str(directories[0].key_file))
    gate.start()
    sockets = CoordinatorSockets(context, address, f"{address.rpartition(':')[0]}:*", gate)
    try:
        assert why_not(address, ours, 30.0) is None
        reason = why_not(address, others, 5.0)
        assert reason is not None and "has other keys" in reason.summary
    finally:
        sockets.close()
        context.term()


def test_a_program_that_never_shakes_hands_is_told() -> None:
    context = new_context()
    other = configure(context.socket(zmq.PUB))
    other.bind("tcp://127.0.0.1:*")
    try:
        reason = why_not(other.getsockopt_string(zmq.LAST_ENDPOINT), None, 1.0)
        assert reason is not None and "not the one for workers" in reason.summary
    finally:
        other.close()
        context.term()
