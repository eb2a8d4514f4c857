"""The reasons for a refused worker, in words for its owner."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from enqueuer.security.curve import secure_server
from enqueuer.security.keys import new_secret_key
from enqueuer.transport.sockets import configure, new_context
from enqueuer_worker.supervisor.refusals import Refusal, RefusalNotes, ask_mechanism, explain
from tests.support.remote import free_address
from tests.support.waiting import wait_until


@pytest.fixture(params=["NULL", "CURVE"])
def listener(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A coordinator's address, and its security mechanism."""
    context = new_context()
    router = configure(context.socket(zmq.ROUTER))
    if request.param == "CURVE":
        secure_server(router, new_secret_key())
    router.bind("tcp://127.0.0.1:*")
    yield router.getsockopt_string(zmq.LAST_ENDPOINT), request.param
    router.close()
    context.term()


def test_a_coordinators_greeting_names_its_mechanism(listener: tuple[str, str]) -> None:
    address, mechanism = listener
    assert ask_mechanism(address) == mechanism


def test_a_closed_port_and_another_program_are_told_apart() -> None:
    assert ask_mechanism(free_address()) is None
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        assert ask_mechanism(f"tcp://127.0.0.1:{server.getsockname()[1]}") == ""
        thread.join()


@pytest.mark.parametrize(
    ("mechanism", "has_token", "words"),
    [
        ("CURVE", True, "made with another coordinator.key"),
        ("CURVE", False, "--token-file"),
        ("NULL", True, "has no keys"),
        ("", True, "no coordinator"),
        ("NULL", False, None),
        (None, True, None),
    ],
)
def test_each_mismatch_of_keys_is_explained(mechanism: str | None, has_token: bool, words: str | None) -> None:
    reason = explain(mechanism, has_token=has_token)
    assert reason is None if words is None else words in str(reason)


def test_a_refusal_is_logged_at_once_and_then_every_half_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = RefusalNotes(logging.getLogger("enqueuer.worker.test"), has_token=True)
    for now in range(29):
        notes.note(Refusal.KEY, "tcp://trainer:5555", float(now))
    assert len(caplog.records) == 1 and "does not know this worker's key" in caplog.text
    notes.note(Refusal.KEY, "tcp://trainer:5555", 30.0)
    assert len(caplog.records) == 2
    address = free_address()
    notes.note(Refusal.UNCLEAR, address, 31.0)
    wait_until(lambda: address in caplog.text, what="what was found out")
