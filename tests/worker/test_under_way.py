"""Whether a TCP connection has more to send than the network takes: asked of the kernel, of real connections."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from enqueuer_worker.under_way import has_bytes_under_way
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO of Linux")


def test_a_peer_that_does_not_read_leaves_bytes_under_way_and_one_that_reads_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as end:
        other, _ = listener.accept()
        with other:
            assert not has_bytes_under_way(end.fileno())
            end.setblocking(False)
            sent = 0
            while True:
                try:
                    sent += end.send(bytes(1 << 20))
                except BlockingIOError:
                    break
            assert has_bytes_under_way(end.fileno())
            received = 0
            while received < sent:
                received += len(other.recv(1 << 20))
            wait_until(lambda: not has_bytes_under_way(end.fileno()))
            other.send(b"x")
            end.setblocking(True)
            assert end.recv(1) == b"x", "the connection is still its owner's"


def test_a_descriptor_that_is_no_tcp_connection_has_none() -> None:
    read, write = os.pipe()
    one, other = socket.socketpair()
    with one, other:
        one.send(b"x")
        assert not has_bytes_under_way(read) and not has_bytes_under_way(one.fileno())
    os.close(read)
    os.close(write)
    assert not has_bytes_under_way(write)
