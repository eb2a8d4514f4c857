"""A connection to a name: looked up beside the poll loop, each of its addresses tried, from one interface if wanted."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from enqueuer.transport.sockets import CoordinatorSockets, new_context
from enqueuer_worker.connection import Refusal
from enqueuer_worker.link import Link
from tests.support.remote import free_address

Addresses = Callable[[], list[str]]


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Callable[[Addresses], None]:
    """Sets what the name 'trainer' is looked up to."""
    known = socket.getaddrinfo

    def serve(addresses: Addresses) -> None:
        def getaddrinfo(host: str, port: int, *rest: Any) -> list[Any]:
            if host != "trainer":
                return known(host, port, *rest)
            found = addresses()
            if not found:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return serve


class Machine:
    """A link to the name 'trainer', and the loop that opens it again after each loss, as worker and supervisor do."""

    def __init__(self, port: str, interface: str = "") -> None:
        self.context = new_context()
        self.poller = zmq.Poller()
        self.link = Link(self.context, self.poller, f"tcp://trainer:{port}", retry_ms=100, interface=interface)
        self.losses_count = 0

    def run_until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, what
            if self.link.control is None or self.link.broken:
                self.losses_count += self.link.control is not None
                self.link.open_control()
            self.link.handle(dict(self.poller.poll(20)))

    def is_connected(self) -> bool:
        return self.link.control is not None and self.link.control.connected


@pytest.fixture
def machine() -> Iterator[Callable[..., Machine]]:
    made: list[Machine] = []

    def make(*arguments: str) -> Machine:
        made.append(Machine(*arguments))
        return made[-1]

    yield make
    for each in made:
        each.link.close()
        assert each.poller.sockets == [], "a closed link leaves nothing to poll"
        each.context.destroy(linger=0)


@pytest.fixture
def hosts() -> tuple[str, list[str]]:
    """A port, and three loopback hosts at which nothing listens there."""
    host, _, port = free_address().removeprefix("tcp://").rpartition(":")
    first, second, third, fourth = host.split(".")
    return port, [f"{first}.{second}.{third}.{(int(fourth) + more) % 254 + 1}" for more in range(3)]


def trainer_at(machine: Machine, host: str, port: str) -> CoordinatorSockets:
    return CoordinatorSockets(machine.context, f"tcp://{host}:{port}", f"tcp://{host}:*")


def test_the_address_at_which_a_trainer_listens_is_found_and_takes_the_batches_too(
    machine: Callable[..., Machine], name_server: Callable[[Addresses], None], hosts: tuple[str, list[str]]
) -> None:
    port, (one, two, three) = hosts
    name_server(lambda: [one, two, three])
    worker = machine(port)
    sockets = trainer_at(worker, two, port)
    try:
        worker.link.open_control()
        worker.link.send_control(b"hello")
        worker.run_until(lambda: sockets.router.poll(0), "the message has arrived")
        assert worker.losses_count == 0, "one round of addresses is one attempt"
        assert worker.link.control is not None and worker.link.control.address == f"tcp://{two}:{port}"
        data_port = sockets.data_endpoint.rpartition(":")[2]
        assert worker.link.open_data(f"tcp://*:{data_port}", time.monotonic()) == f"tcp://{two}:{data_port}"
        worker.link.send_data([b"batch"])
        worker.run_until(lambda: sockets.pull.poll(0), "the batch has arrived")
    finally:
        sockets.close()


def test_a_name_is_looked_up_again_for_each_attempt_and_may_be_unknown_at_first(
    machine: Callable[..., Machine], name_server: Callable[[Addresses], None], hosts: tuple[str, list[str]]
) -> None:
    port, (one, two, _) = hosts
    answers: itertools.chain[list[str]] = itertools.chain([[], [], [one]], itertools.repeat([two]))
    name_server(lambda: next(answers))
    worker = machine(port)
    sockets = trainer_at(worker, two, port)
    worker.run_until(worker.is_connected, "connected")
    assert worker.losses_count == 3
    # The trainer moves: its name has another address from now on.
    name_server(lambda: [one])
    sockets.close()
    worker.run_until(lambda: worker.losses_count > 3 and not worker.is_connected(), "the loss is noticed")
    sockets = trainer_at(worker, one, port)
    worker.run_until(worker.is_connected, "connected to the other address")
    sockets.close()


def test_a_program_that_is_no_trainer_at_one_address_does_not_hide_the_trainer_at_the_next(
    machine: Callable[..., Machine], name_server: Callable[[Addresses], None], hosts: tuple[str, list[str]]
) -> None:
    port, (one, two, _) = hosts
    name_server(lambda: [one, two])
    worker = machine(port)
    other = worker.context.socket(zmq.PUB)
    other.bind(f"tcp://{one}:{port}")
    worker.run_until(lambda: worker.losses_count, "both addresses have failed")
    worker.link.open_control()
    worker.run_until(lambda: worker.link.refusal is Refusal.SOCKET, "the reason is kept")
    sockets = trainer_at(worker, two, port)
    worker.run_until(worker.is_connected, "connected")
    assert worker.link.refusal is None
    sockets.close()
    other.close(0)


def test_a_name_server_that_hangs_does_not_hold_up_the_loop_or_the_end(
    machine: Callable[..., Machine], name_server: Callable[[Addresses], None]
) -> None:
    answer = threading.Event()
    name_server(lambda: ["127.0.0.1"] if answer.wait(60) else [])
    worker = machine("5555")
    worker.link.open_control()
    worker.link.send_control(b"hello")
    assert worker.link.handle(dict(worker.poller.poll(0))) == [] and not worker.link.broken
    worker.link.close()
    answer.set()


def test_the_connections_come_from_the_address_of_the_interface(
    machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch, hosts: tuple[str, list[str]]
) -> None:
    port, (one, two, _) = hosts
    monkeypatch.setattr("enqueuer_worker.trainer_addresses.interface_addresses", lambda _: {socket.AF_INET: two})
    with socket.create_server((one, int(port))) as server:
        worker = machine(port, "eth1")
        worker.link.address = f"tcp://{one}:{port}"
        worker.link.open_control()
        server.settimeout(0)
        seen: list[str] = []

        def accepted() -> bool:
            try:
                connection, (source, _) = server.accept()
            except BlockingIOError:
                return False
            connection.close()
            seen.append(source)
            return True

        worker.run_until(accepted, "a connection")
    assert seen == [two]
