"""The addresses behind --connect, looked up anew for each attempt to connect.

libzmq looks a name up as well, but takes only the first of its addresses and only IPv4. A name may have several: a
machine with two networks, a Kubernetes Service without an address of its own, IPv4 beside IPv6. They are tried in turn.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any, NamedTuple

from enqueuer.transport.addresses import is_tcp_address
from enqueuer_worker.interfaces import interface_addresses


class Target(NamedTuple):
    """One address to connect to, and the address of this machine to connect from; '' for any."""

    family: int
    # As a plain socket takes it.
    address: tuple[Any, ...]
    source: str

    @property
    def endpoint(self) -> str:
        """The address as libzmq takes it: 'tcp://192.0.2.1:5555'."""
        return f"tcp://{_bracketed(self.address[0])}:{self.address[1]}"

    @property
    def route(self) -> str:
        """The endpoint with the source, if there is one: 'tcp://192.0.2.2:0;192.0.2.1:5555'."""
        if not self.source:
            return self.endpoint
        return f"tcp://{_bracketed(self.source)}:0;{self.endpoint.removeprefix('tcp://')}"


def split_address(address: str) -> tuple[str, int]:
    """The host and the port of 'tcp://host:port'; an IPv6 address without its brackets."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)


def needs_lookup(address: str, interface: str) -> bool:
    """Whether `find_targets` can find the addresses behind this one; False unless it is 'tcp://host:port'."""
    if not is_tcp_address(address) or address.endswith("*"):
        return False
    try:
        ipaddress.ip_address(split_address(address)[0])
    except ValueError:
        return True
    return bool(interface)


def find_targets(address: str, interface: str = "") -> list[Target]:
    """Look up 'tcp://host:port'; with an interface, only addresses that can be reached from one of its own.

    IPv4 comes first, since a trainer's usual bind="tcp://0.0.0.0:…" has no other. Blocks as long as the name server
    does. Raises OSError or UnicodeError (a malformed name) if there is none.
    """
    host, port = split_address(address)
    found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    sources = interface_addresses(interface) if interface else None
    targets = [
        Target(family, target, "" if sources is None else sources[family])
        for family, _, _, _, target in found
        if family in (socket.AF_INET, socket.AF_INET6) and (sources is None or family in sources)
    ]
    if not targets:
        raise OSError(f"the network interface {interface} has no address from which {host} can be reached")
    return sorted(dict.fromkeys(targets), key=lambda target: target.family == socket.AF_INET6)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
