"""The coordinator's two sockets, and the options that all sockets share."""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from enqueuer.host import usable_cpus
from enqueuer.transport.sockets import (
    MAX_CONTROL_BYTES,
    MAX_DATA_BYTES,
    CoordinatorSockets,
    configure,
    io_threads_for,
    new_context,
    poll_timeout_ms,
)

LOOPBACK = "tcp://127.0.0.1:*"


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    made = new_context()
    yield made
    made.term()


def test_a_context_is_private(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    assert context is not zmq.Context.instance()


def test_a_poll_timeout_is_rounded_up_and_none_without_a_deadline() -> None:
    assert poll_timeout_ms(10.0001, 10.0) == 1
    assert poll_timeout_ms(9.0, 10.0) == 0
    assert poll_timeout_ms(-math.inf, 10.0) == 0
    assert poll_timeout_ms(math.inf, 10.0) is None


def test_io_threads_are_added_on_machines_with_many_cpus() -> None:
    assert [io_threads_for(cpus) for cpus in (1, 2, 7, 8, 16, 128)] == [1, 1, 1, 2, 4, 4]
    assert usable_cpus() >= 1


@pytest.mark.parametrize("address", [LOOPBACK, "tcp://127.0.0.1:0"])
def test_a_free_port_is_chosen_and_its_endpoint_known(context: zmq.Context[zmq.Socket[bytes]], address: str) -> None:
    sockets = CoordinatorSockets(context, address, address)
    ports = {int(endpoint.rpartition(":")[2]) for endpoint in (sockets.control_endpoint, sockets.data_endpoint)}
    sockets.close()
    assert len(ports) == 2 and 0 not in ports


def test_a_port_in_use_is_an_error_and_no_socket_stays_open(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        for addresses in ((address, LOOPBACK), (LOOPBACK, address)):
            with pytest.raises(OSError, match="cannot bind") as caught:
                CoordinatorSockets(context, *addresses)
            assert caught.value.errno == errno.EADDRINUSE
    # The fixture's term() would wait for ever for a socket that was left open.


def test_ipc_sockets_are_made_at_the_given_paths(context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path) -> None:
    sockets = CoordinatorSockets(context, f"ipc://{tmp_path}/c", f"ipc://{tmp_path}/d")
    assert sockets.control_endpoint == f"ipc://{tmp_path}/c"
    assert (tmp_path / "c").is_socket() and (tmp_path / "d").is_socket()
    sockets.close()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_is_enabled_for_an_address_in_brackets(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 loopback here")
    sockets = CoordinatorSockets(context, "tcp://[::1]:*", "tcp://[::1]:*")
    assert sockets.control_endpoint.startswith("tcp://[::1]:")
    sockets.close()


def test_a_message_to_an_unknown_peer_is_an_error(
    context: zmq.Context[zmq.Socket[bytes]],
) -> None:
    sockets = CoordinatorSockets(context, LOOPBACK, LOOPBACK)
    with pytest.raises(zmq.ZMQError) as caught:
        sockets.router.send_multipart([b"nobody", b"x"], zmq.NOBLOCK)
    assert caught.value.errno == zmq.EHOSTUNREACH
    sockets.close()


def test_a_message_over_the_limit_closes_its_senders_connection_and_no_others(
    context: zmq.Context[zmq.Socket[bytes]],
) -> None:
    sockets = CoordinatorSockets(context, LOOPBACK, LOOPBACK)
    attacker, peer = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
    for each in (attacker, peer):
        each.setsockopt(zmq.LINGER, 0)
        each.connect(sockets.control_endpoint)
    attacker.send(bytes(MAX_CONTROL_BYTES + 1))
    peer.send(b"small")
    assert sockets.router.poll(10_000)
    assert sockets.router.recv_multipart()[1] == b"small"
    assert not sockets.router.poll(0)
    for each in (attacker, peer):
        each.close()
    sockets.close()


def test_all_sockets_have_no_linger_no_high_water_mark_and_a_size_limit(
    context: zmq.Context[zmq.Socket[bytes]],
) -> None:
    sockets = CoordinatorSockets(context, LOOPBACK, LOOPBACK)
    dealer = configure(context.socket(zmq.DEALER))
    for each in (sockets.router, sockets.pull, dealer):
        assert [each.getsockopt(option) for option in (zmq.LINGER, zmq.SNDHWM, zmq.RCVHWM)] == [0, 0, 0]
    assert sockets.router.getsockopt(zmq.MAXMSGSIZE) == MAX_CONTROL_BYTES
    assert sockets.pull.getsockopt(zmq.MAXMSGSIZE) == MAX_DATA_BYTES
    dealer.close()
    sockets.close()


def test_the_last_message_leaves_within_the_linger(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    sockets = CoordinatorSockets(context, LOOPBACK, LOOPBACK)
    peer = context.socket(zmq.DEALER)
    peer.connect(sockets.control_endpoint)
    peer.send(b"hello")
    route, _ = sockets.router.recv_multipart()
    sockets.router.send_multipart([route, b"stop"])
    sockets.close(linger_seconds=1.0)
    assert peer.poll(10_000)
    assert peer.recv() == b"stop"
    peer.close()
