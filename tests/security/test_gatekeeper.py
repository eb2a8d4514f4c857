"""Admission on real sockets: only listed keys, and no peer without a ZAP handler."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zmq

from enqueuer.errors import ConfigurationError
from enqueuer.security import gatekeeper
from enqueuer.security.curve import secure_client, secure_server
from enqueuer.security.gatekeeper import Gatekeeper, RefusalLog
from enqueuer.security.key_directory import KeyDirectory
from enqueuer.security.keys import (
    Token,
    WorkerToken,
    new_secret_key,
    read_coordinator_key,
    read_observer_token,
    read_token,
)
from enqueuer.transport.sockets import CoordinatorSockets, configure, new_context
from tests.support.waiting import wait_until

LOOPBACK = "tcp://127.0.0.1:*"
# Long enough for a handshake on a busy machine; a peer that is not admitted by then is refused.
REFUSED_MS = 600

Context = zmq.Context[zmq.Socket[bytes]]
Knock = Callable[..., zmq.Socket[bytes]]


@pytest.fixture
def directory(tmp_path: Path) -> KeyDirectory:
    made = KeyDirectory(tmp_path)
    made.create()
    return made


@pytest.fixture
def token(directory: KeyDirectory) -> WorkerToken:
    return read_token(directory.token_file("worker"))


@pytest.fixture
def context() -> Iterator[Context]:
    made = new_context()
    yield made
    made.term()


@pytest.fixture
def sockets(context: Context, directory: KeyDirectory) -> Iterator[CoordinatorSockets]:
    gate = Gatekeeper(context, str(directory.key_file))
    gate.start()
    made = CoordinatorSockets(context, LOOPBACK, LOOPBACK, gate)
    yield made
    made.close()


@pytest.fixture
def knock() -> Iterator[Knock]:
    """A peer on another host: a context of its own."""
    others = new_context()
    made: list[zmq.Socket[bytes]] = []

    def connect(endpoint: str, token: Token | None, kind: int = zmq.DEALER) -> zmq.Socket[bytes]:
        socket = configure(others.socket(kind))
        made.append(socket)
        if token is not None:
            secure_client(socket, token)
        socket.connect(endpoint)
        with suppress(zmq.Again):  # refused already: libzmq has given its connection up
            socket.send(b"hello", zmq.NOBLOCK)
        return socket

    yield connect
    for socket in made:
        socket.close()
    others.term()


def key_of(received: tuple[Any, str | None] | None) -> str | None:
    assert received is not None
    return received[1]


def test_a_listed_worker_is_admitted_on_both_sockets(
    sockets: CoordinatorSockets, knock: Knock, token: WorkerToken
) -> None:
    knock(sockets.control_endpoint, token)
    knock(sockets.data_endpoint, token, zmq.PUSH)
    assert sockets.router.poll(5_000) and sockets.pull.poll(5_000)
    frames, key = sockets.receive_control() or ([], "")
    assert key == token.public_key.hex() and frames[1:] == [b"hello"]
    received, key = sockets.receive_data() or ([], "")
    assert key == token.public_key.hex() and received[0].bytes == b"hello"


def test_an_observer_is_admitted_and_none_of_its_data_counts(
    sockets: CoordinatorSockets, knock: Knock, directory: KeyDirectory
) -> None:
    directory.add_observer("grafana")
    token = read_observer_token(directory.token_file("grafana"))
    knock(sockets.control_endpoint, token)
    knock(sockets.data_endpoint, token, zmq.PUSH)
    assert sockets.router.poll(5_000) and sockets.pull.poll(5_000)
    key = key_of(sockets.receive_control())
    assert key == token.public_key.hex()
    assert sockets.gate is not None and sockets.gate.is_observer(key)
    assert key_of(sockets.receive_data()) is None, "as if its key were revoked"


def test_a_revoked_observer_is_no_longer_heard(
    sockets: CoordinatorSockets, knock: Knock, directory: KeyDirectory
) -> None:
    directory.add_observer("grafana")
    token = read_observer_token(directory.token_file("grafana"))
    peer = knock(sockets.control_endpoint, token)
    assert sockets.router.poll(5_000)
    assert key_of(sockets.receive_control()) == token.public_key.hex()
    directory.revoke_observer("grafana")

    def is_refused() -> bool:
        peer.send(b"again")
        return bool(sockets.router.poll(100)) and key_of(sockets.receive_control()) is None

    wait_until(is_refused, 30)


def unlisted(token: WorkerToken) -> dict[str, WorkerToken | None]:
    return {
        "no key": None,
        "a key that is not listed": WorkerToken(token.server_key, new_secret_key()),
        "another coordinator's": WorkerToken(new_secret_key(), token.secret_key),
    }


@pytest.mark.parametrize("identity", ["no key", "a key that is not listed", "another coordinator's"])
def test_a_peer_without_a_listed_key_is_refused(
    sockets: CoordinatorSockets, knock: Knock, token: WorkerToken, identity: str
) -> None:
    peer_token = unlisted(token)[identity]
    knock(sockets.control_endpoint, peer_token)
    knock(sockets.data_endpoint, peer_token, zmq.PUSH)
    assert not sockets.router.poll(REFUSED_MS) and not sockets.pull.poll(0)


@pytest.mark.parametrize("identity", ["no key", "a key that is not listed", "another coordinator's"])
def test_the_log_says_why_a_peer_was_refused(
    sockets: CoordinatorSockets, knock: Knock, token: WorkerToken, identity: str, caplog: pytest.LogCaptureFixture
) -> None:
    peer_token = unlisted(token)[identity]
    words = (
        "is not in" if identity == "a key that is not listed" else "another coordinator.key" if peer_token else "no key"
    )

    def is_said() -> bool:
        # Repeatedly, as a worker does: either end may hang up first, and only the other one learns why.
        knock(sockets.control_endpoint, peer_token)
        time.sleep(0.2)
        return words in caplog.text

    wait_until(is_said, what=f"a line with {words!r}")
    if identity == "a key that is not listed":
        assert peer_token is not None
        assert f"its key {peer_token.public_key.hex()[:8]} is not in" in caplog.text


def test_no_peer_is_admitted_without_a_zap_handler(context: Context, knock: Knock, token: WorkerToken) -> None:
    secret = new_secret_key()
    server = configure(context.socket(zmq.ROUTER))
    secure_server(server, secret)
    server.bind(LOOPBACK)
    endpoint = server.getsockopt_string(zmq.LAST_ENDPOINT)
    from enqueuer.security.keys import public_key_of

    knock(endpoint, WorkerToken(public_key_of(secret), token.secret_key))
    assert not server.poll(REFUSED_MS)
    server.close()


def test_keys_are_added_and_revoked_while_the_coordinator_runs(
    sockets: CoordinatorSockets,
    knock: Knock,
    directory: KeyDirectory,
    token: WorkerToken,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    first = knock(sockets.control_endpoint, token)
    assert sockets.router.poll(5_000) and key_of(sockets.receive_control())
    directory.add_worker("second")
    second = knock(sockets.control_endpoint, read_token(directory.token_file("second")))
    assert sockets.router.poll(5_000) and key_of(sockets.receive_control())
    directory.revoke_worker("worker")

    def is_admitted(peer: zmq.Socket[bytes]) -> bool:
        peer.send(b"again")
        assert sockets.router.poll(5_000)
        return key_of(sockets.receive_control()) is not None

    wait_until(lambda: not is_admitted(first), 5.0, "the revoked key to be refused")
    assert is_admitted(second)
    # The name is now another key's, and does not admit the old one.
    directory.add_worker("worker")
    wait_until(lambda: "(worker) is let in from now on" in caplog.text, what="the file to be read again")
    assert not is_admitted(first)


def test_results_with_a_revoked_key_are_refused(
    sockets: CoordinatorSockets, knock: Knock, directory: KeyDirectory, token: WorkerToken
) -> None:
    peer = knock(sockets.data_endpoint, token, zmq.PUSH)
    assert sockets.pull.poll(5_000) and key_of(sockets.receive_data()) is not None
    directory.revoke_worker("worker")

    def is_taken() -> bool:
        peer.send(b"result")
        assert sockets.pull.poll(5_000)
        return key_of(sockets.receive_data()) is not None

    wait_until(lambda: not is_taken(), 5.0, "results to be dropped")


def test_no_new_worker_is_admitted_while_the_key_file_is_unreadable(
    sockets: CoordinatorSockets,
    knock: Knock,
    directory: KeyDirectory,
    token: WorkerToken,
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = knock(sockets.control_endpoint, token)
    assert sockets.router.poll(5_000) and key_of(sockets.receive_control())
    directory.key_file.chmod(0o644)
    wait_until(lambda: "no new worker is admitted" in caplog.text, what="the file to be read")
    knock(sockets.control_endpoint, token)
    assert not sockets.router.poll(REFUSED_MS)
    old.send(b"still here")
    assert sockets.router.poll(5_000) and key_of(sockets.receive_control())
    directory.key_file.chmod(0o600)
    knock(sockets.control_endpoint, token)
    assert sockets.router.poll(10_000)


def test_a_new_coordinator_key_takes_effect_at_the_next_start(
    sockets: CoordinatorSockets, directory: KeyDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        directory.create(replace=True)
        wait_until(lambda: "it takes effect at the next start()" in caplog.text, what="the warning")
    assert read_coordinator_key(directory.key_file).secret_key.hex() not in caplog.text


def test_an_unreadable_key_file_is_an_error_and_leaves_no_socket_open(context: Context, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        Gatekeeper(context, str(tmp_path / "nothing"))
    # The fixture's term() would wait for ever for a socket that was left open.


def test_refusals_are_logged_ten_times_a_minute_at_most(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr(gatekeeper.time, "monotonic", lambda: now)
    log = RefusalLog()
    for number in range(5_000):
        log.warn(f"key {number % 2_000}", f"refused {number}")
    assert len(caplog.records) == 10
    now += 60.0
    log.warn("key", "refused again")
    assert caplog.messages[-1] == "refused again (and 4990 more before)"
    log.warn("key", "refused again")
    assert len(caplog.records) == 11, "one line a minute about the same key"
