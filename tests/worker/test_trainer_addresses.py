"""The addresses behind --connect, and those of the interface to connect from."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from enqueuer_worker import trainer_addresses
from enqueuer_worker.trainer_addresses import find_targets, needs_lookup


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Let every name have these addresses."""

    def getaddrinfo(_host: str, port: int, *_: Any) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, port, 0, 0))
            if ":" in host
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
            for host in hosts
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def interface_with(monkeypatch: pytest.MonkeyPatch, addresses: dict[int, str]) -> None:
    monkeypatch.setattr(trainer_addresses, "interface_addresses", lambda _name: addresses)


def test_a_name_has_all_its_addresses_and_those_of_ipv4_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "fd00::1", "192.0.2.2", "192.0.2.1", "192.0.2.2")
    targets = find_targets("tcp://trainer:5555")
    assert [target.endpoint for target in targets] == [
        "tcp://192.0.2.2:5555",
        "tcp://192.0.2.1:5555",
        "tcp://[fd00::1]:5555",
    ]
    assert [target.route for target in targets] == [target.endpoint for target in targets]


def test_an_interface_names_the_source_and_leaves_out_what_it_cannot_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "fd00::1", "192.0.2.1")
    interface_with(monkeypatch, {socket.AF_INET: "192.0.2.9", socket.AF_INET6: "fd00::9"})
    assert [target.route for target in find_targets("tcp://trainer:5555", "ib0")] == [
        "tcp://192.0.2.9:0;192.0.2.1:5555",
        "tcp://[fd00::9]:0;[fd00::1]:5555",
    ]
    interface_with(monkeypatch, {socket.AF_INET6: "fd00::9"})
    assert [target.endpoint for target in find_targets("tcp://trainer:5555", "ib0")] == ["tcp://[fd00::1]:5555"]
    interface_with(monkeypatch, {})
    with pytest.raises(OSError, match="ib0 has no address from which trainer can be reached"):
        find_targets("tcp://trainer:5555", "ib0")


@pytest.mark.parametrize(
    ("address", "interface", "expected"),
    [
        ("tcp://trainer:5555", "", True),
        ("tcp://192.0.2.1:5555", "", False),
        ("tcp://[fe80::1%lo]:5555", "", False),
        ("tcp://192.0.2.1:5555", "lo", True),
        ("tcp://trainer:99999", "lo", False),
        ("tcp://", "lo", False),
        ("nonsense", "lo", False),
        ("ipc:///run/x", "lo", False),
    ],
)
def test_a_name_is_looked_up_and_so_is_every_address_from_an_interface(
    address: str, interface: str, expected: bool
) -> None:
    assert needs_lookup(address, interface) is expected


def test_localhost_is_found_from_the_loopback_interface() -> None:
    targets = find_targets("tcp://localhost:5555", "lo")
    assert "tcp://127.0.0.1:0;127.0.0.1:5555" in [target.route for target in targets]
