"""Slabs through a Unix socket: which peers may show them, refusals, and nothing left behind."""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from enqueuer.memory import slab_exchange
from enqueuer.memory.arena import Arena
from enqueuer.memory.slab_exchange import SlabReceiver, SlabSender, common_path, receive_slabs
from tests.support.leaks import open_descriptors
from tests.support.waiting import wait_until

OWNER = b"w" * 16
SIZES = (1000,)


class Trainer:
    """A receiver, and the thread that drives it."""

    def __init__(self, path: Path) -> None:
        self.receiver = SlabReceiver(path)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.receiver._epoll.poll(0.02)
            self.receiver.handle()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.receiver.close()


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:  # tmp_path would be too long for a socket
        yield Path(directory) / "slabs"


@pytest.fixture
def trainer(path: Path) -> Iterator[Trainer]:
    made = Trainer(path)
    yield made
    made.close()


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setattr(slab_exchange, "COMMON_DIRECTORY", Path(directory))
        yield Path(directory)


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_shown_slab_is_read_without_a_copy(trainer: Trainer) -> None:
    sender = SlabSender(trainer.receiver.path, trainer.receiver.secret, OWNER)
    arena = Arena(sender.send)
    for number in range(3):
        block = arena.take(1000)
        assert block is not None
        block.contents[:1000] = bytes([number]) * 1000
        ((view,),) = trainer.receiver.blocks.open(OWNER, [(block.ref, SIZES)])
        assert bytes(view) == bytes([number]) * 1000
    assert len(trainer.receiver.blocks._slabs) == 1
    sender.close()
    wait_until(lambda: not trainer.receiver._connections, what="the connection to be forgotten")


def test_only_the_same_user_can_connect(trainer: Trainer) -> None:
    assert stat.S_IMODE(trainer.receiver.path.lstat().st_mode) == 0o600


@pytest.mark.parametrize("secret", [b"x" * 32, b"", b"x" * 33])
def test_a_peer_without_the_secret_cannot_show_a_slab(trainer: Trainer, secret: bytes) -> None:
    sender = SlabSender(trainer.receiver.path, secret, OWNER)
    assert Arena(sender.send).take(1000) is None
    assert not trainer.receiver.blocks._slabs
    wait_until(lambda: not trainer.receiver._connections, what="the connection to be closed")
    sender.close()


def test_an_unsafe_file_is_refused_and_the_connection_goes_on(trainer: Trainer) -> None:
    sender = SlabSender(trainer.receiver.path, trainer.receiver.secret, OWNER)
    with tempfile.TemporaryFile() as file, pytest.raises(OSError, match="did not take"):
        sender.send(b"s" * 16, file.fileno())
    fd = os.memfd_create("empty", os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    with pytest.raises(OSError, match="did not take"):
        sender.send(b"s" * 16, fd)
    os.close(fd)
    assert Arena(sender.send).take(1000) is not None
    sender.close()


def test_the_last_descriptors_are_left_to_the_trainers_own_files(
    trainer: Trainer, caplog: pytest.LogCaptureFixture
) -> None:
    sender = SlabSender(trainer.receiver.path, trainer.receiver.secret, OWNER)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 4 * (open_fds() + 20)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
    arenas: list[Arena] = []
    try:
        while not arenas or arenas[-1].take(1000) is not None:
            assert len(arenas) < limit
            arenas.append(Arena(sender.send))
        assert open_fds() <= limit - limit // 4 + 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(arenas) > 5
    assert caplog.text.count("ulimit -n") == 1
    assert Arena(sender.send).take(1000) is not None, "the connection goes on"
    sender.close()


def test_a_malformed_message_closes_the_connection_and_leaks_no_descriptor(trainer: Trainer) -> None:
    before = open_descriptors()
    for message in (b"x", bytes(64), bytes(5000), trainer.receiver.secret + bytes(32)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.settimeout(5.0)
            peer.connect(str(trainer.receiver.path))
            reader, writer = os.pipe()
            socket.send_fds(peer, [message], [reader, writer, reader])
            os.close(reader)
            os.close(writer)
            assert peer.recv(100)[-1:] in (b"", b"\0")
    wait_until(lambda: not open_descriptors() - before, what="no descriptor more")
    SlabSender(trainer.receiver.path, trainer.receiver.secret, OWNER).close()


def test_a_sender_without_a_trainer_raises_os_error(path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(FileNotFoundError):
        SlabSender(path, b"s" * 32, OWNER)
    assert not open_descriptors() - before


def test_a_silent_trainer_is_awaited_for_a_limited_time(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(slab_exchange, "_ANSWER_SECONDS", 0.05)
    receiver = SlabReceiver(path)
    sender = SlabSender(path, receiver.secret, OWNER)
    assert Arena(sender.send).take(1000) is None
    assert "timed out" in caplog.text
    sender.close()
    receiver.close()


def test_a_late_answer_is_not_taken_for_the_next_slabs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slab_exchange, "_ANSWER_SECONDS", 0.05)
    receiver = SlabReceiver(path)
    sender = SlabSender(path, receiver.secret, OWNER)
    assert Arena(sender.send).take(1000) is None
    receiver.handle()
    receiver.handle()  # accepts, then answers: too late
    monkeypatch.setattr(socket, "send_fds", _then(receiver.handle))
    with tempfile.TemporaryFile() as file, pytest.raises(OSError, match="did not take"):
        sender.send(b"s" * 16, file.fileno())
    assert Arena(sender.send).take(1000) is not None
    sender.close()
    receiver.close()


def _then(answer: Callable[[], None]) -> Callable[..., int]:
    send_fds = socket.send_fds

    def send_and_answer(*arguments: Any) -> int:
        sent = send_fds(*arguments)
        answer()
        return sent

    return send_and_answer


def test_slabs_are_kept_until_their_worker_has_hung_up_and_left_the_session(path: Path) -> None:
    receiver = SlabReceiver(path)
    trainer = threading.Thread(target=lambda: [receiver._epoll.poll(5.0) and receiver.handle() for _ in range(2)])
    trainer.start()
    sender = SlabSender(path, receiver.secret, OWNER)
    assert Arena(sender.send).take(1000) is not None
    trainer.join()
    receiver.forget_departed(lambda owner: True)
    assert len(receiver.blocks._slabs) == 1, "the worker may be lost only for a while"
    sender.close()
    receiver.handle()
    receiver.forget_departed(lambda owner: False)
    assert len(receiver.blocks._slabs) == 1, "its results may still arrive"
    assert receiver.hung_up == {OWNER}
    receiver.forget_departed(lambda owner: owner == OWNER)
    assert not receiver.blocks._slabs
    assert not receiver.hung_up
    receiver.close()


@pytest.mark.parametrize("step", ["chmod", "listen", "epoll"])
def test_a_receiver_that_cannot_be_made_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(24, "Too many open files")

    before = open_descriptors()
    if step == "epoll":
        monkeypatch.setattr(slab_exchange.select, "epoll", fail)
    else:
        monkeypatch.setattr(*{"chmod": (Path, "chmod"), "listen": (slab_exchange.socket.socket, "listen")}[step], fail)
    with pytest.raises(OSError, match="Too many"):
        SlabReceiver(path)
    assert list(path.parent.iterdir()) == []
    assert not open_descriptors() - before


def test_closing_leaves_no_socket_and_no_descriptor(path: Path) -> None:
    before = open_descriptors()
    receiver = SlabReceiver(path)
    sender = SlabSender(path, receiver.secret, OWNER)
    receiver.handle()
    receiver.close()
    sender.close()
    assert not path.exists()
    assert not open_descriptors() - before


# ---------------------------------------------------------------- the common directory


NOT_OURS = ["", "..", "../run/docker.sock", "/etc/passwd", "enqueuer-0", "enqueuer-" + "0" * 32 + "/x"]


@pytest.mark.parametrize("name", NOT_OURS)
def test_only_names_of_slab_sockets_are_accepted(name: str) -> None:
    with pytest.raises(OSError, match="not the name of a socket"):
        common_path(name)


def test_a_sockets_name_leads_to_its_path(common: Path) -> None:
    receiver = receive_slabs()
    assert receiver is not None
    assert receiver.path.parent == common
    assert common_path(receiver.path.name) == receiver.path
    receiver.close()
    assert list(common.iterdir()) == []


def test_only_sockets_of_killed_trainers_are_removed(common: Path) -> None:
    living = receive_slabs()
    assert living is not None
    starting = common / f"{common_path().name}~"
    for path in (common_path(), starting, common / "enqueuer-other"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
            dead.bind(str(path))
    file = common_path()
    file.write_text("no socket")
    other = receive_slabs()
    assert other is not None
    assert set(common.iterdir()) == {living.path, other.path, starting, file, common / "enqueuer-other"}
    living.close()
    other.close()


def test_without_a_common_directory_there_is_no_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slab_exchange, "COMMON_DIRECTORY", Path("/nonexistent"))
    assert receive_slabs() is None
