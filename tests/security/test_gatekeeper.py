"""Who gets in, on real sockets: only listed keys, and nobody while nobody decides."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from enqueuer.errors import ConfigurationError
from enqueuer.security.curve import secure_client, secure_server
from enqueuer.security.gatekeeper import Gatekeeper, Notes
from enqueuer.security.key_directory import KeyDirectory
from enqueuer.security.keys import WorkerToken, new_secret_key, read_coordinator_key, read_token
from enqueuer.transport.sockets import CoordinatorSockets, configure, new_context
from tests.support.waiting import wait_until

LOOPBACK = "tcp://127.0.0.1:*"
# Long enough for a handshake on a busy machine; who is not in by then is out.
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

    def connect(endpoint: str, token: WorkerToken | None, kind: int = zmq.DEALER) -> zmq.Socket[bytes]:
        socket = configure(others.socket(kind))
        if token is not None:
            secure_client(socket, token)
        socket.connect(endpoint)
        socket.send(b"hello")
        made.append(socket)
        return socket

    yield connect
    for socket in made:
        socket.close()
    others.term()


def test_who_is_listed_comes_in_on_both_channels(sockets: CoordinatorSockets, knock: Knock, token: WorkerToken) -> None:
    knock(sockets.control_endpoint, token)
    knock(sockets.data_endpoint, token, zmq.PUSH)
    assert sockets.router.poll(5_000) and sockets.pull.poll(5_000)
    frames, key = sockets.receive_control()
    assert key == token.public_key.hex() and frames[1:] == [b"hello"]
    received, key = sockets.receive_data()
    assert key == token.public_key.hex() and received[0].bytes == b"hello"


def strangers(token: WorkerToken) -> dict[str, WorkerToken | None]:
    return {
        "no key": None,
        "a key that is not listed": WorkerToken(token.server_key, new_secret_key()),
        "another coordinator's": WorkerToken(new_secret_key(), token.secret_key),
    }


@pytest.mark.parametrize("who", ["no key", "a key that is not listed", "another coordinator's"])
def test_nobody_else_comes_in(sockets: CoordinatorSockets, knock: Knock, token: WorkerToken, who: str) -> None:
    stranger = strangers(token)[who]
    knock(sockets.control_endpoint, stranger)
    knock(sockets.data_endpoint, stranger, zmq.PUSH)
    assert not sockets.router.poll(REFUSED_MS) and not sockets.pull.poll(0)


@pytest.mark.parametrize("who", ["no key", "a key that is not listed", "another coordinator's"])
def test_the_log_says_who_was_refused_and_why(
    sockets: CoordinatorSockets, knock: Knock, token: WorkerToken, who: str, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = strangers(token)[who]
    words = "is not in" if who == "a key that is not listed" else "another coordinator.key" if stranger else "no key"

    def is_said() -> bool:
        # As a worker does, again and again: which end hangs up first is chance, and only the other one knows why.
        knock(sockets.control_endpoint, stranger)
        time.sleep(0.2)
        return words in caplog.text

    wait_until(is_said, what=f"a line that says {words!r}")
    if who == "a key that is not listed":
        assert stranger is not None
        assert f"its key {stranger.public_key.hex()[:8]} is not in" in caplog.text


def test_without_anybody_who_decides_nobody_comes_in(context: Context, knock: Knock, token: WorkerToken) -> None:
    secret = new_secret_key()
    server = configure(context.socket(zmq.ROUTER))
    secure_server(server, secret)
    server.bind(LOOPBACK)
    endpoint = server.getsockopt_string(zmq.LAST_ENDPOINT)
    from enqueuer.security.keys import public_key_of

    knock(endpoint, WorkerToken(public_key_of(secret), token.secret_key))
    assert not server.poll(REFUSED_MS)
    server.close()


def test_keys_are_added_and_revoked_while_it_runs(
    sockets: CoordinatorSockets,
    knock: Knock,
    directory: KeyDirectory,
    token: WorkerToken,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    first = knock(sockets.control_endpoint, token)
    assert sockets.router.poll(5_000) and sockets.receive_control()[1]
    directory.add_worker("second")
    second = knock(sockets.control_endpoint, read_token(directory.token_file("second")))
    assert sockets.router.poll(5_000) and sockets.receive_control()[1]
    directory.revoke_worker("worker")

    def is_let_in(peer: zmq.Socket[bytes]) -> bool:
        peer.send(b"again")
        assert sockets.router.poll(5_000)
        return sockets.receive_control()[1] is not None

    wait_until(lambda: not is_let_in(first), 5.0, "that the revoked key counts for nothing")
    assert is_let_in(second)
    # The name alone opens nothing: it is another key's now.
    directory.add_worker("worker")
    wait_until(lambda: "(worker) is let in from now on" in caplog.text, what="that the file is read again")
    assert not is_let_in(first)


def test_results_of_a_revoked_key_are_not_read(
    sockets: CoordinatorSockets, knock: Knock, directory: KeyDirectory, token: WorkerToken
) -> None:
    peer = knock(sockets.data_endpoint, token, zmq.PUSH)
    assert sockets.pull.poll(5_000) and sockets.receive_data()[1] is not None
    directory.revoke_worker("worker")

    def is_taken() -> bool:
        peer.send(b"result")
        assert sockets.pull.poll(5_000)
        return sockets.receive_data()[1] is not None

    wait_until(lambda: not is_taken(), 5.0, "that results are dropped")


def test_while_the_key_file_is_not_right_nobody_new_comes_in_and_then_they_do(
    sockets: CoordinatorSockets,
    knock: Knock,
    directory: KeyDirectory,
    token: WorkerToken,
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = knock(sockets.control_endpoint, token)
    assert sockets.router.poll(5_000) and sockets.receive_control()[1]
    directory.key_file.chmod(0o644)
    wait_until(lambda: "nobody new gets in" in caplog.text, what="that the file is looked at")
    knock(sockets.control_endpoint, token)
    assert not sockets.router.poll(REFUSED_MS)
    old.send(b"still here")
    assert sockets.router.poll(5_000) and sockets.receive_control()[1]
    directory.key_file.chmod(0o600)
    knock(sockets.control_endpoint, token)
    assert sockets.router.poll(10_000)


def test_new_keys_for_the_coordinator_wait_for_its_next_start(
    sockets: CoordinatorSockets, directory: KeyDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        directory.create(replace=True)
        wait_until(lambda: "they count from the next start()" in caplog.text, what="that it is said")
    assert read_coordinator_key(directory.key_file).secret_key.hex() not in caplog.text


def test_a_key_file_that_is_not_right_is_an_error_and_leaves_nothing_open(context: Context, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        Gatekeeper(context, str(tmp_path / "nothing"))
    # The fixture's term() would wait for ever for a socket that was left open.


def test_notes_are_few_however_many_knock(caplog: pytest.LogCaptureFixture) -> None:
    notes = Notes()
    for number in range(5_000):
        notes.note(f"key {number % 2_000}", f"refused {number}")
    assert len(caplog.records) == 10
