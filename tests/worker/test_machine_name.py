"""The name of a machine for the logs: service and number in a container of Compose, otherwise the host name."""

from __future__ import annotations

import socket
import struct

import pytest

from enqueuer_worker.machine_name import machine_name, read_answer, service_and_number

QUESTION = b"\x013\x010\x0218\x03172\x07in-addr\x04arpa\0" + struct.pack(">HH", 12, 1)


def answer(name: bytes, count: int = 1) -> tuple[bytes, int]:
    """A message of a name server, and the length of the query in it."""
    query = struct.pack(">HHHHHH", 1, 0x8180, 1, count, 0, 0) + QUESTION
    return query + b"\xc0\x0c" + struct.pack(">HHIH", 12, 1, 600, len(name)) + name, len(query)


def test_outside_of_a_container_it_is_the_host_name() -> None:
    assert machine_name() == socket.gethostname()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digits-worker-3.digits_default", "worker-3"),
        ("digits_worker_3.digits_default", "worker-3"),
        ("my-digits-worker-12.my-digits_batch-net", "worker-12"),
        ("by-hand.bridge", "by-hand"),
        ("", ""),
    ],
)
def test_it_is_service_and_number_of_the_containers_name(name: str, expected: str) -> None:
    assert service_and_number(name) == expected


def test_the_name_is_read_from_the_name_servers_answer() -> None:
    assert read_answer(*answer(b"\x0fdigits-worker-3\x0edigits_default\0")) == "digits-worker-3.digits_default"
    assert read_answer(*answer(b"", count=0)) == ""


@pytest.mark.parametrize("name", [b"", b"\x05abc", b"\x02\xff\xff\0"])
def test_a_broken_answer_is_one_of_the_errors_that_are_expected(name: bytes) -> None:
    with pytest.raises((ValueError, IndexError, struct.error)):
        read_answer(*answer(name))
