"""The trainer's end of its own processes' links, and the processes' end, against each other."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from enqueuer.transport.local_sockets import LocalSockets
from enqueuer_worker.local_link import LocalLink

DEADLINE = 30.0


class Trainer:
    """The sockets, polled like those of the I/O loop, and what they have received."""

    def __init__(self, path: Path) -> None:
        self.sockets = LocalSockets(path)
        self.poller = zmq.Poller()
        self.sockets.register(self.poller)
        self.control: list[list[bytes]] = []
        self.data: list[list[bytes]] = []

    def read(self) -> None:
        self.sockets.read(dict(self.poller.poll(20)))
        while (received := self.sockets.receive_control()) is not None:
            self.control.append(received[0])
        while (results := self.sockets.receive_data()) is not None:
            self.data.append([bytes(frame) for frame in results[0]])


class Process:
    """A worker's link."""

    def __init__(self, trainer: Trainer) -> None:
        self.poller = zmq.Poller()
        self.link = LocalLink(self.poller, trainer.sockets.control_endpoint)
        self.link.open_control()
        self.received: list[bytes] = []

    def read(self) -> None:
        self.received += self.link.handle(dict(self.poller.poll(20)))


def until(condition: Callable[[], Any], *ends: Trainer | Process) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        for end in ends:
            end.read()


Join = Callable[[], Process]


@pytest.fixture
def join(trainer: Trainer) -> Iterator[Join]:
    """Makes processes, linked to the trainer."""
    made: list[Process] = []

    def make() -> Process:
        made.append(Process(trainer))
        return made[-1]

    yield make
    for process in made:
        process.link.close()
        assert len(process.poller.sockets) == 0, "a closed link leaves nothing to poll"


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    made = Trainer(tmp_path / "link")
    yield made
    made.sockets.close()
    assert not (tmp_path / "link").exists()


def test_each_process_has_a_route_of_its_own_and_gets_its_own_messages(trainer: Trainer, join: Join) -> None:
    first, second = join(), join()
    first.link.send_control(b"hello from the first")
    second.link.send_control(b"hello from the second")
    until(lambda: len(trainer.control) == 2, trainer)
    routes = {text: route for route, text in trainer.control}
    assert trainer.sockets.send(routes[b"hello from the first"], b"welcome, first")
    assert trainer.sockets.send(routes[b"hello from the second"], b"welcome, second")
    until(lambda: first.received and second.received, first, second)
    assert (first.received, second.received) == ([b"welcome, first"], [b"welcome, second"])


def test_results_and_control_messages_share_one_stream_and_are_told_apart(trainer: Trainer, join: Join) -> None:
    process = join()
    assert process.link.open_data("whatever the Welcome says", 0.0) == trainer.sockets.data_endpoint
    process.link.send_data([b"header", memoryview(bytes(1000))])
    process.link.send_control(b"heartbeat")
    until(lambda: trainer.control and trainer.data, trainer)
    assert trainer.data == [[b"header", bytes(1000)]]
    assert [text for _, text in trainer.control] == [b"heartbeat"]


def test_results_larger_than_the_socket_arrive_and_nothing_else_waits_for_them(trainer: Trainer, join: Join) -> None:
    large = bytes(3_000_000)
    process, other = join(), join()
    process.link.send_data([b"header", large])
    other.link.send_control(b"heartbeat")
    until(lambda: trainer.control and trainer.data, trainer, process)
    assert trainer.data == [[b"header", large]]


def test_messages_to_a_process_that_does_not_read_wait_and_do_not_stop_the_trainer(
    trainer: Trainer, join: Join
) -> None:
    process = join()
    process.link.send_control(b"hello")
    until(lambda: trainer.control, trainer)
    messages = [bytes([number]) * 100_000 for number in range(20)]
    for message in messages:
        assert trainer.sockets.send(trainer.control[0][0], message)
    until(lambda: len(process.received) == len(messages), trainer, process)
    assert process.received == messages


def test_a_message_to_a_process_that_is_gone_is_told(trainer: Trainer, join: Join) -> None:
    process = join()
    process.link.send_control(b"hello")
    until(lambda: trainer.control, trainer)
    process.link.close()
    route = trainer.control[0][0]
    until(lambda: not trainer.sockets.send(route, b"anybody there?"), trainer)


def test_the_last_message_of_a_trainer_is_read_before_its_end(trainer: Trainer, join: Join) -> None:
    process = join()
    process.link.send_control(b"hello")
    until(lambda: trainer.control, trainer)
    trainer.sockets.send(trainer.control[0][0], b"stop")
    trainer.sockets.close(linger_seconds=0.2)
    until(lambda: process.link.broken, process)
    assert process.received == [b"stop"]


def test_a_link_to_a_trainer_that_is_gone_is_broken(tmp_path: Path) -> None:
    link = LocalLink(zmq.Poller(), f"unix://{tmp_path / 'nobody'}")
    link.open_control()
    assert link.broken
    link.send_control(b"hello")
    link.close()
    assert not link.broken


def test_a_process_that_sends_no_messages_is_hung_up_on(
    trainer: Trainer, join: Join, caplog: pytest.LogCaptureFixture
) -> None:
    process, other = join(), join()
    other.link.send_control(b"hello")
    process.link._stream.socket.send(b"\xff" * 12)  # type: ignore[union-attr]
    until(lambda: process.link.broken, trainer, process)
    assert "closed the connection of a local process that sent a message of" in caplog.text
    assert [text for _, text in trainer.control] == [b"hello"]


def test_connections_that_no_descriptor_is_left_for_are_taken_later(
    trainer: Trainer, join: Join, caplog: pytest.LogCaptureFixture
) -> None:
    process = join()
    process.link.send_control(b"hello")
    listener = trainer.sockets._listener

    class Full:
        """A listener whose process has no descriptor left."""

        fileno = staticmethod(listener.fileno)
        close = staticmethod(listener.close)

        @staticmethod
        def accept() -> None:
            raise OSError(errno.EMFILE, "Too many open files")

    trainer.sockets._listener = Full()  # type: ignore[assignment]
    until(lambda: trainer.sockets._is_paused, trainer)
    assert trainer.poller.poll(0) == [], "the loop is not kept busy"
    trainer.read()
    assert caplog.text.count("a local process cannot connect") == 1
    trainer.sockets._listener = listener
    until(lambda: trainer.control, trainer)
    assert not trainer.sockets._is_paused
