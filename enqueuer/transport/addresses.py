"""Checks of ZeroMQ addresses: is it TCP, and can other machines reach it."""

from __future__ import annotations

import ipaddress


def is_tcp_address(address: object) -> bool:
    """Whether ``address`` is tcp://HOST:PORT, where PORT is a number or '*' (any free port).

    An IPv6 address is in brackets, as libzmq wants it.
    """
    if not isinstance(address, str) or not address.startswith("tcp://"):
        return False
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        return False
    return bool(host) and (port == "*" or (port.isascii() and port.isdigit() and int(port) < 65536))


def is_connectable(address: object) -> bool:
    """Whether ``address`` is tcp://HOST:PORT with one host and one port, as a peer needs it to connect."""
    return is_tcp_address(address) and "*" not in str(address)


def is_loopback(address: str) -> bool:
    """Whether only this machine can connect to the address. Any host name but localhost may be another machine's."""
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
