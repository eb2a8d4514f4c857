"""The name of this machine for logs and errors: its host name, or the service and number of a Compose container.

Each container of a service has the same settings, and its host name is a random number. The name with the service
and the number is known to Docker's name server alone, by the address:

    172.18.0.3 ── PTR ──► digits-worker-3.digits_default ──► worker-3

The system's own look-up would not do: it reads /etc/hosts first, which has the random number.
"""

from __future__ import annotations

import re
import socket
import struct

from enqueuer.host import in_container

_RANDOM_NAME = re.compile(r"[0-9a-f]{12}")
# The name server that Docker gives to the containers of a network that a user made, as Compose does.
_NAME_SERVER = ("127.0.0.11", 53)
_ANSWER_SECONDS = 1.0
_HEADER = struct.Struct(">HHHHHH")
_QUESTION, _RECURSIVE = b"\0\x0c\0\x01", 0x0100  # type PTR, class IN
_POINTER_BITS = 0xC0
# Type, class, time to live and length of an answer, between its two names.
_ANSWER_HEAD_BYTES = 10


def machine_name() -> str:
    """The name of this machine: as Compose names its container, otherwise its host name."""
    host = socket.gethostname()
    if not in_container() or _RANDOM_NAME.fullmatch(host) is None:
        return host
    try:
        return service_and_number(_ask(socket.gethostbyname(host))) or host
    except (OSError, ValueError, struct.error, IndexError):
        return host


def service_and_number(name: str) -> str:
    """Return 'worker-3' of 'digits-worker-3.digits_default' or 'digits_worker_3.digits_default'."""
    container, _, network = name.partition(".")
    project = network.rpartition("_")[0]
    if project and container.startswith((f"{project}-", f"{project}_")):
        container = container[len(project) + 1 :]
    return container.replace("_", "-")


def _ask(address: str) -> str:
    """Ask Docker's name server for the name of an IPv4 address."""
    query = _HEADER.pack(1, _RECURSIVE, 1, 0, 0, 0)
    for label in (*reversed(address.split(".")), "in-addr", "arpa"):
        query += bytes([len(label)]) + label.encode()
    query += b"\0" + _QUESTION
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(_NAME_SERVER)
        connection.send(query)
        return read_answer(connection.recv(512), len(query))


def read_answer(answer: bytes, query_bytes: int) -> str:
    """Return the name in the first answer of a DNS message (RFC 1035); '' if there is none. Raises on a broken one."""
    if _HEADER.unpack_from(answer)[3] == 0:
        return ""
    at = query_bytes
    at += 2 if answer[at] >= _POINTER_BITS else answer.index(0, at) - at + 1
    return _read_name(answer, at + _ANSWER_HEAD_BYTES)


def _read_name(message: bytes, at: int) -> str:
    labels: list[str] = []
    for _ in message:  # pointers could lead in a circle
        length = message[at]
        if length == 0:
            break
        if length >= _POINTER_BITS:
            at = ((length & ~_POINTER_BITS) << 8) | message[at + 1]
        else:
            labels.append(message[at + 1 : at + 1 + length].decode("ascii"))
            at += length + 1
    return ".".join(labels)
