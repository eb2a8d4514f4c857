"""Observers of running trainers: found on this machine, over TCP, with keys and without; and what they cannot do."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from enqueuer import SequenceEnqueuer
from enqueuer.observer import NoTrainerError, Observer, local_observers
from enqueuer.protocol.control_codec import decode_control, encode_control
from enqueuer.protocol.messages import NO_ID, Drain, Observe, Reject
from enqueuer.security.curve import secure_client
from enqueuer.security.key_directory import KeyDirectory
from enqueuer.security.keys import ObserverToken, read_observer_token, read_token
from enqueuer.transport.message_stream import MessageStream
from enqueuer.transport.sockets import configure, new_context
from tests.support.observed import own_directory
from tests.support.waiting import wait_until

# Of a trainer's I/O thread, on a busy machine.
TIMEOUT = 30.0
LOOPBACK = "tcp://127.0.0.1:*"


class Squares:
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full(4, index * index)


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_directory(monkeypatch) as path:
        yield path


@pytest.fixture
def trainer() -> Iterator[SequenceEnqueuer]:
    with SequenceEnqueuer(Squares()) as enqueuer:
        enqueuer.start(workers=2)
        yield enqueuer


@pytest.fixture
def keys(tmp_path: Path) -> KeyDirectory:
    made = KeyDirectory(tmp_path / "keys")
    made.create()
    made.add_observer()
    return made


@pytest.fixture
def keyed(keys: KeyDirectory) -> Iterator[str]:
    """The address of a trainer with keys."""
    with SequenceEnqueuer(Squares(), bind=LOOPBACK, key_file=str(keys.key_file)) as enqueuer:
        enqueuer.start(workers=1)
        assert enqueuer.endpoint is not None
        yield enqueuer.endpoint


def token_of(keys: KeyDirectory) -> ObserverToken:
    return read_observer_token(keys.token_file("observer"))


# ---------------------------------------------------------------- on this machine


def test_a_trainer_without_bind_is_found_and_seen(trainer: SequenceEnqueuer) -> None:
    batches = trainer.get()
    for _ in range(7):
        next(batches)
    [observer] = local_observers(timeout=TIMEOUT)
    with observer:
        seen = observer.look()
        assert (seen.pid, seen.epoch, seen.taken_count, seen.length) == (os.getpid(), 0, 7, 20)
        assert (seen.slots_count, seen.workers_count, seen.cause) == (2, 1, "too early to tell")
        [row] = seen.rows
        assert (row.worker_id, row.state, row.slots) == ("threads", "serving", 2) and row.batches_count >= 7
        assert [event[2] for event in seen.events] == ["joined"]
        for _ in range(5):
            next(batches)
        again = observer.look(with_workers=False, after_event=seen.events[-1][0])
        assert again.taken_count == 12 and again.rows == () and again.events == ()


def test_two_trainers_of_one_process_are_both_found(trainer: SequenceEnqueuer) -> None:
    with SequenceEnqueuer(Squares()) as other:
        other.start(workers=1)
        observers = local_observers(timeout=TIMEOUT)
        slots = []
        for observer in observers:
            with observer:
                slots.append(observer.look().slots_count)
    assert sorted(slots) == [1, 2]


def test_the_socket_is_private_and_goes_with_its_trainer(trainer: SequenceEnqueuer, directory: Path) -> None:
    assert directory.stat().st_mode & 0o777 == 0o700
    assert len(list(directory.iterdir())) == 1
    [observer] = local_observers(timeout=TIMEOUT)
    trainer.stop()
    assert list(directory.iterdir()) == []
    with observer, pytest.raises(NoTrainerError, match="the trainer has ended"):
        observer.look()
    assert local_observers() == []


def test_sockets_of_dead_trainers_are_ignored_and_removed(trainer: SequenceEnqueuer, directory: Path) -> None:
    dead = directory / "1-00000000.trainer"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    found = local_observers(timeout=TIMEOUT)
    for observer in found:
        observer.close()
    assert len(found) == 1 and not dead.exists()


def test_a_directory_that_others_may_enter_is_not_used(directory: Path) -> None:
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    with SequenceEnqueuer(Squares()) as enqueuer:
        enqueuer.start(workers=1)
        assert next(enqueuer.get()) is not None, "the trainer runs without it"
        assert list(directory.iterdir()) == []
        with pytest.raises(PermissionError, match="chmod 700"):
            local_observers()


@pytest.mark.parametrize("sent", ["garbage", "another message", "two frames", "a flood"])
def test_whatever_is_no_request_ends_the_connection_and_not_the_trainer(
    trainer: SequenceEnqueuer, directory: Path, sent: str
) -> None:
    [path] = directory.iterdir()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.settimeout(TIMEOUT)
        if sent == "garbage":
            connection.sendall(b"\xff" * 4096)
        else:
            stream = MessageStream(connection)
            request = encode_control(NO_ID, Observe(0, 0, 0))
            frames = {"another message": [encode_control(NO_ID, Drain())], "two frames": [request, request]}
            for _ in range(1_000 if sent == "a flood" else 1):
                stream.send(frames.get(sent, [request]), is_data=False)
            connection.settimeout(TIMEOUT)
        # A peer with unread input resets the connection instead of closing it.
        with contextlib.suppress(ConnectionError):
            while connection.recv(65_536):
                pass
    assert next(trainer.get()) is not None
    [observer] = local_observers(timeout=TIMEOUT)
    with observer:
        assert observer.look(with_workers=False).slots_count == 2


def test_an_observer_that_does_not_read_is_cut_off(trainer: SequenceEnqueuer, directory: Path) -> None:
    [path] = directory.iterdir()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        connection.connect(str(path))
        stream = MessageStream(connection)
        for _ in range(60):
            stream.send([encode_control(NO_ID, Observe(0, 64, 0))], is_data=False)
        next(trainer.get())
    [observer] = local_observers(timeout=TIMEOUT)
    with observer:
        assert observer.look().slots_count == 2


def test_a_forked_child_leaves_the_socket_to_its_parent(trainer: SequenceEnqueuer, directory: Path) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert len(list(directory.iterdir())) == 1
    [observer] = local_observers(timeout=TIMEOUT)
    with observer:
        assert observer.look().pid == os.getpid()


# ---------------------------------------------------------------- over TCP


def test_a_trainer_without_keys_shows_itself_to_each_peer_of_its_port() -> None:
    with SequenceEnqueuer(Squares(), bind=LOOPBACK) as enqueuer:
        enqueuer.start(workers=1)
        assert enqueuer.endpoint is not None
        with Observer(enqueuer.endpoint, timeout=TIMEOUT) as observer:
            assert observer.look().slots_count == 1
        assert enqueuer.stats().offences_count == 0


def test_a_trainer_with_keys_shows_itself_to_an_observers_token(keyed: str, keys: KeyDirectory) -> None:
    with Observer(keyed, token_of(keys), timeout=TIMEOUT) as observer:
        assert observer.look().slots_count == 1


def test_without_a_token_or_with_a_revoked_one_the_error_says_so(keyed: str, keys: KeyDirectory) -> None:
    with Observer(keyed, timeout=TIMEOUT) as observer, pytest.raises(NoTrainerError, match="wants an observer's token"):
        observer.look()
    token = token_of(keys)
    with Observer(keyed, token, timeout=TIMEOUT) as observer:
        observer.look()
        keys.revoke_observer("observer")

        def is_refused() -> bool:
            try:
                observer.look(with_workers=False)
            except PermissionError as error:
                return "revoked" in str(error)
            return False

        wait_until(is_refused, TIMEOUT)
    with Observer(keyed, token, timeout=TIMEOUT) as observer, pytest.raises(NoTrainerError, match="does not admit"):
        observer.look()


def test_a_busy_trainer_a_tunnel_to_nothing_and_an_unknown_name_are_not_taken_for_a_lack_of_a_token() -> None:
    def is_told(address: str, text: str) -> None:
        with Observer(address, timeout=TIMEOUT) as observer:
            wait_until(lambda: text in observer._link.explain(), TIMEOUT, text)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        is_told(address, "busy")

        def close_each() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        closing = threading.Thread(target=close_each)
        closing.start()
        try:
            is_told(address, "the connection is closed again")
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            closing.join()
    # A part of a name has up to 63 letters, so no name server is asked.
    is_told(f"tcp://{'a' * 64}.invalid:1", ".invalid is not found")


def ask(address: str, token: object, frame: bytes) -> Reject:
    """What a peer with this token is answered."""
    context = new_context()
    peer = configure(context.socket(zmq.DEALER))
    try:
        secure_client(peer, token)  # type: ignore[arg-type]
        peer.connect(address)
        peer.send(frame)
        assert peer.poll(int(1000 * TIMEOUT))
        message = decode_control(peer.recv())[1]
        assert isinstance(message, Reject)
        return message
    finally:
        peer.close()
        context.term()


def test_a_workers_token_cannot_observe_and_an_observers_token_cannot_serve(keyed: str, keys: KeyDirectory) -> None:
    worker = read_token(keys.token_file("worker"))
    assert "--add-observer" in ask(keyed, worker, encode_control(NO_ID, Observe(0, 0, 0))).reason
    assert "nothing but observe" in ask(keyed, token_of(keys), encode_control(NO_ID, Drain())).reason


def test_nothing_at_the_address_and_another_program_there_are_told_apart() -> None:
    with Observer("tcp://127.0.0.1:1", timeout=0.5) as observer, pytest.raises(NoTrainerError, match="nothing answers"):
        observer.look()
    context = new_context()
    mute = configure(context.socket(zmq.ROUTER))
    try:
        port = mute.bind_to_random_port("tcp://127.0.0.1")
        address = f"tcp://127.0.0.1:{port}"
        with Observer(address, timeout=1.5) as observer, pytest.raises(NoTrainerError, match="another program"):
            observer.look()
    finally:
        mute.close()
        context.term()


def test_many_observers_look_while_batches_flow(trainer: SequenceEnqueuer) -> None:
    ended = threading.Event()
    failures: list[BaseException] = []

    def watch() -> None:
        try:
            [observer] = local_observers(timeout=TIMEOUT)
            with observer:
                while not ended.is_set():
                    observer.look()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=watch) for _ in range(4)]
    for thread in threads:
        thread.start()
    batches = trainer.get()
    seen = [next(batches)[0] for _ in range(400)]
    ended.set()
    for thread in threads:
        thread.join(2 * TIMEOUT)
    assert not failures and seen == [index * index for index in range(20)] * 20
