"""Checks of the network: real sockets, and a ping whose answers the test gives."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from enqueuer.monitoring import network_checks
from enqueuer.monitoring.network_checks import check_name, check_path, check_port, judge_name


@pytest.mark.parametrize("host", ["127.0.0.1", "*"])
def test_a_port_in_use_is_told_and_a_free_one_is_left_free(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert f"ss -ltnp 'sport = :{port}'" in check_port(f"tcp://{host}:{port}").cure
    for _ in range(2):
        assert check_port(f"tcp://{host}:{port}").cure == ""
    assert "address of this machine" in check_port(f"tcp://192.0.2.1:{port}").cure


def test_a_name_is_told_with_its_addresses_and_a_slow_look_up_with_its_time() -> None:
    found = check_name("tcp://localhost:5555")
    assert found is not None and "127.0.0.1" in found.text
    assert check_name("tcp://no-such-host.invalid:5555") is None
    assert judge_name("trainer", ["192.0.2.1"], 0.1).cure == ""
    slow = judge_name("trainer", ["192.0.2.1"], 5.0)
    assert "after 5.0 s" in slow.text and "resolv.conf" in slow.cure


@pytest.mark.parametrize(
    ("mtu", "largest", "words", "cure"),
    [
        (1_500, 1_472, "packets of up to 1500 bytes", ""),
        (1_500, 1_372, "lost on the way", "ping -M do -s 1472 127.0.0.1"),
        (1_500, 0, "packets of up to 1500 bytes", ""),  # no ping is answered: nothing is known
        (65_536, 0, "packets of up to 65536 bytes", ""),
        (576, 548, "packets of up to 576 bytes", "raise the MTU"),
        (None, 0, "not known here", ""),
    ],
)
def test_a_way_that_loses_large_packets_is_told(
    mtu: int | None, largest: int, words: str, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ping = tmp_path / "ping"
    ping.write_text(f'#!/bin/sh\nwhile [ "$1" != -s ]; do shift; done\n[ "$2" -le {largest} ]\n')
    ping.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(network_checks, "_path_mtu", lambda connection: mtu)
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = check_path(f"tcp://127.0.0.1:{server.getsockname()[1]}")
    assert found is not None
    assert words in found.text and (cure in found.cure if cure else not found.cure)


def test_the_way_is_measured_on_a_real_connection_and_not_without_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        found = check_path(address)
        assert found is not None and found.cure == ""
    assert check_path(address) is None
