"""This machine's network interfaces and their addresses."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
import sys
from pathlib import Path

from enqueuer.errors import ConfigurationError

# netdevice(7), and <sys/sockio.h> on macOS: the first IPv4 address of an interface.
_GET_ADDRESS = 0x8915 if sys.platform == "linux" else 0xC0206921
_NAME_BYTES = 16
_REQUEST = struct.Struct(f"{_NAME_BYTES}s24x")
_ADDRESS_AT = slice(20, 24)
_IPV6_TABLE = Path("/proc/net/if_inet6")
_GLOBAL_SCOPES = ("00", "10")  # of the world, and of the host itself (::1)


def interface_addresses(name: str) -> dict[int, str]:
    """Return the interface's first IPv4 and first global IPv6 address, by family; empty for an unknown interface.

    IPv6 addresses are known on Linux only.
    """
    found: dict[int, str] = {}
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _GET_ADDRESS, _REQUEST.pack(name.encode()[: _NAME_BYTES - 1]))
        found[socket.AF_INET] = socket.inet_ntoa(answer[_ADDRESS_AT])
    with contextlib.suppress(OSError):
        for line in _IPV6_TABLE.read_text().splitlines():
            digits, _index, _prefix, scope, _flags, interface = line.split()
            if interface == name and scope in _GLOBAL_SCOPES:
                found.setdefault(socket.AF_INET6, str(ipaddress.IPv6Address(bytes.fromhex(digits))))
    return found


def check_interface(name: str) -> None:
    """Raise ConfigurationError, with all interfaces that could be meant, unless this one has an address."""
    if name and not interface_addresses(name):
        known = {each: interface_addresses(each).values() for _, each in socket.if_nameindex()}
        listed = ", ".join(f"{each} ({', '.join(addresses)})" for each, addresses in known.items() if addresses)
        problem = "has no address" if name in known else "is none of this machine"
        raise ConfigurationError(f"interface={name!r} {problem}; there are: {listed or 'none with an address'}")
