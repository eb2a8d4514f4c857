"""The addresses of this machine's network interfaces."""

from __future__ import annotations

import socket
import sys

import pytest

from enqueuer.errors import ConfigurationError
from enqueuer_worker.interfaces import check_interface, interface_addresses

LOOPBACK = "lo" if sys.platform == "linux" else "lo0"


def test_the_loopback_interface_has_its_address() -> None:
    assert interface_addresses(LOOPBACK)[socket.AF_INET] == "127.0.0.1"
    assert interface_addresses(LOOPBACK).get(socket.AF_INET6, "::1") == "::1"
    check_interface(LOOPBACK)
    check_interface("")


@pytest.mark.parametrize("name", ["no-such-iface", "a-name-longer-than-any-interface-may-have", "ä"])
def test_an_unknown_interface_is_an_error_that_lists_those_there_are(name: str) -> None:
    assert interface_addresses(name) == {}
    with pytest.raises(
        ConfigurationError, match=rf"interface='{name}' is none of this machine; there are: .*127.0.0.1"
    ):
        check_interface(name)
