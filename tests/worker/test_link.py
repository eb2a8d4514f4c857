"""A link's two sockets against real ones."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import zmq

from enqueuer.transport.sockets import CoordinatorSockets, new_context
from enqueuer_worker.connection import Refusal
from enqueuer_worker.link import Link, fill_in_host
from tests.support.remote import free_address


def listening(link: Link, context: zmq.Context[zmq.Socket[bytes]]) -> CoordinatorSockets:
    """A coordinator at the link's address, its data channel on the same host."""
    return CoordinatorSockets(context, link.address, f"{link.address.rpartition(':')[0]}:*")


class Ends:
    """A link, and something to poll it with."""

    def __init__(self) -> None:
        self.context = new_context()
        self.poller = zmq.Poller()
        self.link = Link(self.context, self.poller, free_address(), retry_ms=100)
        self.received: list[bytes] = []

    def run_until(self, condition: object, deadline: float = 10.0) -> None:
        assert callable(condition)
        end = time.monotonic() + deadline
        while not condition():
            assert time.monotonic() < end
            self.received += self.link.handle(dict(self.poller.poll(20)))


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.link.close()
    assert len(made.poller.sockets) == 0, "a closed link leaves nothing to poll"
    made.context.destroy(linger=0)  # after a failure, sockets are still open


def test_messages_wait_for_a_listener_and_a_hello_replaces_them(ends: Ends) -> None:
    link = ends.link
    link.open_control()
    link.send_control(b"hello 1", replaces_waiting=True)
    link.send_control(b"hello 2", replaces_waiting=True)
    link.send_control(b"more")
    ends.run_until(lambda: link.control is not None and link.control.retrying)
    sockets = listening(link, ends.context)
    try:
        ends.run_until(lambda: sockets.router.poll(0))
        assert [sockets.router.recv_multipart()[1] for _ in range(2)] == [b"hello 2", b"more"]
    finally:
        sockets.close()


def test_the_last_message_is_received_before_the_break(ends: Ends) -> None:
    link = ends.link
    sockets = listening(link, ends.context)
    link.open_control()
    link.send_control(b"hello")
    ends.run_until(lambda: sockets.router.poll(0))
    route, _ = sockets.router.recv_multipart()
    sockets.router.send_multipart([route, b"bye"])
    sockets.close(linger_seconds=1.0)
    ends.run_until(lambda: link.broken)
    assert ends.received == [b"bye"]


def test_results_wait_for_the_data_connection_and_its_break_breaks_the_link(ends: Ends) -> None:
    link = ends.link
    sockets = listening(link, ends.context)
    link.open_control()
    address = link.open_data(f"tcp://*:{sockets.data_endpoint.rpartition(':')[2]}", now=100.0)
    assert address == sockets.data_endpoint and link.data_due == 110.0
    link.send_data([b"header", b"x" * 200_000])
    ends.run_until(lambda: sockets.pull.poll(0))
    assert [len(frame) for frame in sockets.pull.recv_multipart()] == [6, 200_000]
    ends.run_until(lambda: link.data_due > 1e9)
    sockets.pull.close()
    ends.run_until(lambda: link.broken)
    sockets.close()


def test_a_given_data_address_replaces_the_one_that_the_coordinator_names(ends: Ends) -> None:
    sockets = listening(ends.link, ends.context)
    ends.link = Link(ends.context, ends.poller, ends.link.address, data_address=sockets.data_endpoint)
    assert ends.link.open_data("tcp://*:1", now=100.0) == sockets.data_endpoint
    ends.link.send_data([b"header"])
    ends.run_until(lambda: sockets.pull.poll(0))
    sockets.close()


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://", "ipc:///tmp/somebody-elses", "inproc://x", ""])
def test_a_data_endpoint_that_cannot_be_the_coordinators_breaks_the_link(ends: Ends, endpoint: str) -> None:
    ends.link.open_control()
    ends.link.open_data(endpoint, now=100.0)
    assert ends.link.broken


def test_sending_without_a_connection_does_nothing(ends: Ends) -> None:
    ends.link.send_control(b"x")
    ends.link.send_data([b"x"])
    assert ends.link.handle({}) == [] and not ends.link.broken


@pytest.mark.parametrize(
    ("endpoint", "connected_to", "address"),
    [
        ("tcp://*:5556", "tcp://trainer:5555", "tcp://trainer:5556"),
        ("tcp://0.0.0.0:5556", "tcp://10.0.0.1:5555", "tcp://10.0.0.1:5556"),
        ("tcp://[::]:5556", "tcp://[fe80::1]:5555", "tcp://[fe80::1]:5556"),
        ("tcp://elsewhere:5556", "tcp://trainer:5555", "tcp://elsewhere:5556"),
        ("ipc:///run/data", "ipc:///run/control", "ipc:///run/data"),
    ],
)
def test_a_data_endpoint_without_a_host_is_on_the_coordinators_host(
    endpoint: str, connected_to: str, address: str
) -> None:
    assert fill_in_host(endpoint, connected_to) == address


def test_a_data_port_at_which_another_program_answers_is_noticed(ends: Ends) -> None:
    link = ends.link
    sockets = listening(link, ends.context)
    other = ends.context.socket(zmq.REP)
    other.bind("tcp://127.0.0.1:*")
    try:
        link.open_control()
        ends.run_until(lambda: link.control is not None and link.control.connected)
        assert not link.has_no_data_port
        link.open_data(other.getsockopt_string(zmq.LAST_ENDPOINT), time.monotonic())
        ends.run_until(lambda: link.has_no_data_port)
    finally:
        other.close(0)
        sockets.close()


def test_a_socket_of_another_kind_than_the_coordinators_is_a_refusal_of_its_own(ends: Ends) -> None:
    publisher = ends.context.socket(zmq.PUB)
    publisher.bind(ends.link.address)
    try:
        ends.link.open_control()
        ends.run_until(lambda: ends.link.refusal is Refusal.SOCKET)
        assert ends.link.broken
    finally:
        publisher.close(0)
