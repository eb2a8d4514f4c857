"""Checks of the network between a trainer and a worker's host: ports, names, and how large a packet gets through.

The counterpart of `surroundings`, for `enqueuer doctor --bind` and `--connect`. Addresses are tcp://HOST:PORT.
"""

from __future__ import annotations

import errno
import shutil
import socket
import subprocess
import sys
import time

from enqueuer.monitoring.surroundings import Finding

_CONNECT_SECONDS = 5.0
_SLOW_SECONDS = 1.0
# Options of linux/in.h and linux/in6.h that Python has no names for.
_IP_MTU, _IPV6_MTU = 14, 24
# Only loopback has a larger size, and its packets take no way. IPv6 requires the smaller one of every way.
_LARGEST_MTU, _LEAST_MTU = 9_216, 1_280
_PING_HEADERS = 28
_PING_SECONDS = 2


def check_port(address: str) -> Finding:
    """Whether the address can be bound now."""
    host, port = _split(address)
    try:
        with socket.create_server(("" if host == "*" else host, port), family=_family(host)):
            return Finding("port", f"{address} can be bound")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return Finding("port", f"another program has port {port}", f"ss -ltnp 'sport = :{port}' shows it: end it")
        reason = str(error.strerror).partition(" (while attempting")[0]  # `create_server` adds the address in its form
        return Finding("port", f"{address} cannot be bound: {reason}", "take an address of this machine")


def check_name(address: str) -> Finding | None:
    """How fast the trainer's name is found; None if it is not: the check of joining says so."""
    host, port = _split(address)
    started = time.monotonic()
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError):
        return None
    return judge_name(host, found, time.monotonic() - started)


def judge_name(host: str, found: list[str], seconds: float) -> Finding:
    """The finding of a look-up that took so long."""
    text = f"{host} is {', '.join(found)}"
    if seconds < _SLOW_SECONDS:
        return Finding("name", text)
    cure = "a name server in /etc/resolv.conf does not answer: mend it, or give the IP address"
    return Finding("name", f"{text}, after {seconds:.1f} s", cure)


def check_path(address: str) -> Finding | None:
    """Whether the way to the trainer carries packets as large as this machine sends; None without a connection.

    Where a tunnel drops large packets in silence, Hellos get through and batches do not.
    """
    host, port = _split(address)
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_SECONDS) as connection:
            ip, mtu = str(connection.getpeername()[0]), _path_mtu(connection)
    except OSError:
        return None
    if mtu is None:
        return Finding("path", "how large a packet may be is not known here")
    text = f"packets of up to {mtu} bytes"
    if mtu < _LEAST_MTU:
        return Finding("path", text, "raise the MTU of the interface or tunnel (ip link), or batches come in crumbs")
    size = mtu - _PING_HEADERS
    if mtu <= _LARGEST_MTU and ":" not in ip and _passes(ip, 56) and not _passes(ip, size):
        cure = (
            f"lower this machine's MTU (ip link set dev DEVICE mtu 1400) until `ping -M do -s {size} {ip}` is answered"
        )
        return Finding("path", f"{text}, but packets of this size are lost on the way", cure)
    return Finding("path", text)


def _path_mtu(connection: socket.socket) -> int | None:
    is_v6 = connection.family == socket.AF_INET6
    option = (socket.IPPROTO_IPV6, _IPV6_MTU) if is_v6 else (socket.IPPROTO_IP, _IP_MTU)
    return connection.getsockopt(*option) if sys.platform == "linux" else None


def _passes(ip: str, size: int) -> bool:
    """Whether a ping of this size is answered, in one packet; False without the program."""
    if shutil.which("ping") is None:
        return False
    command = ["ping", "-c", "1", "-W", str(_PING_SECONDS), "-M", "do", "-s", str(size), ip]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
