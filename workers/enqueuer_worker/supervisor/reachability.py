"""The reason why no trainer answers at an address, found out by one plain TCP connection beside ZeroMQ.

libzmq hides the reason: a failed attempt is an event without a cause. So `look` resolves the address and connects by
itself, and tells how far it came:

    name ──► route ──► port ──► greeting ──► mechanism (CURVE or NULL) ──► keys
      │        │         │          │              │
      │        │         │          │              └ explain_keys: this worker's token does not fit
      │        │         │          └ another program listens there, or one that says nothing
      │        │         └ refused: nothing listens; silent: a firewall
      │        └ no route, no host
      └ unknown

A ZeroMQ greeting (64 bytes) names the mechanism before any handshake, so half a greeting of our own is enough. `look`
blocks: for the look-up of the name, `_CONNECT_SECONDS` and `_GREETING_SECONDS`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from typing import NamedTuple

from enqueuer_worker.connection import Refusal
from enqueuer_worker.trainer_addresses import Target, find_targets, split_address

_CONNECT_SECONDS = 3.0
_GREETING_SECONDS = 2.0
# ZMTP 3.1 (rfc.zeromq.org/spec/37): ten bytes of signature, two of version, twenty of mechanism, of 64 in all.
_SIGNATURE_AND_VERSION = b"\xff" + bytes(8) + b"\x7f\x03\x01"
_GREETING_BYTES = 64
_MECHANISM = slice(12, 32)


class Finding(NamedTuple):
    """The reason for the lack of a session: the fact, and its cure. ``final``: another attempt cannot help."""

    level: int
    summary: str
    advice: str
    final: bool = False


class _Met(NamedTuple):
    """A program that accepts connections: its security mechanism if it speaks ZeroMQ, otherwise a finding."""

    mechanism: str
    finding: Finding | None = None


def look(address: str, refusal: Refusal | None, *, has_token: bool, interface: str = "") -> Finding | None:
    """Return the reason why the trainer at 'tcp://host:port' does not let this worker in; None if there is none to see.

    ``refusal`` is how ZeroMQ's handshake failed there; None: it did not, or there was none. Of a name with several
    addresses, the gravest reason counts, unless there is none at one of them.
    """
    host, port = split_address(address)
    try:
        targets = find_targets(address, interface)
    except (socket.gaierror, UnicodeError) as error:
        return Finding(
            logging.WARNING,
            f"the name {host!r} of the trainer is not known here ({getattr(error, 'strerror', None) or error})",
            "check its spelling in --connect, and this machine's name server; an IP address works as well",
        )
    except OSError as error:
        return Finding(logging.WARNING, str(error), "give --interface another one, or leave it out")
    findings: list[Finding] = []
    for target in targets:
        ip = str(target.address[0])
        where = f"{host}:{port}" if ip == host else f"{host}:{port} ({ip})"
        finding = _look_at(target, where, refusal, has_token=has_token)
        if finding is None:
            return None
        findings.append(finding)
    return max(findings, key=lambda finding: (finding.final, finding.level))


def _look_at(target: Target, where: str, refusal: Refusal | None, *, has_token: bool) -> Finding | None:
    ip, port = str(target.address[0]), target.address[1]
    try:
        with socket.socket(target.family, socket.SOCK_STREAM) as connection:
            connection.settimeout(_CONNECT_SECONDS)
            if target.source:
                connection.bind((target.source, 0))
            connection.connect(target.address)
            connection.settimeout(_GREETING_SECONDS)
            met = _read_greeting(connection, where)
    except OSError as error:
        return _unreachable(error, where, ip, port)
    if met.finding is not None:
        return met.finding
    reason = explain_keys(met.mechanism, where, refusal, has_token=has_token)
    return reason or (_other_socket(where) if refusal is Refusal.SOCKET else None)


def _unreachable(error: OSError, where: str, ip: str, port: int) -> Finding:
    """The finding of a failed connection attempt."""
    if isinstance(error, ConnectionRefusedError):
        # Between two trainings this is as it should be.
        return Finding(
            logging.INFO,
            f"no trainer listens at {where}: the connection is refused",
            "the trainer does not run yet, or its bind=… names another port, or 127.0.0.1, which only its own machine "
            "reaches",
        )
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return Finding(
            logging.WARNING,
            f"nothing comes back from {where}",
            f"a firewall on the way drops the packets (open TCP port {port} there), or no machine has this address",
        )
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN):
        return Finding(
            logging.WARNING,
            f"there is no route to {where}: {error.strerror}",
            f"check the address in --connect and this machine's network; the machine {ip} may be off",
        )
    return Finding(
        logging.WARNING,
        f"this machine cannot connect to {where}: {error.strerror or error}",
        "check this machine's own routes and firewall",
    )


def _read_greeting(connection: socket.socket, where: str) -> _Met:
    """Greet a program as ZeroMQ does, and read its answer."""
    greeting = b""
    try:
        connection.sendall(_SIGNATURE_AND_VERSION)
        while len(greeting) < _GREETING_BYTES and (part := connection.recv(_GREETING_BYTES - len(greeting))):
            greeting += part
            if greeting[0] != _SIGNATURE_AND_VERSION[0]:
                return _Met("", _foreign(where))
    except TimeoutError:
        return _Met(
            "",
            Finding(
                logging.WARNING,
                f"the program at {where} accepts the connection and says nothing",
                "it is another program than a trainer, or one that hangs: check the port in --connect",
            ),
        )
    except ConnectionError:
        greeting = b""
    if len(greeting) < _GREETING_BYTES:
        return _Met(
            "",
            Finding(
                logging.WARNING,
                f"the program at {where} closes the connection at once",
                "it is another program than a trainer, or a port forwarding whose trainer does not run yet",
            ),
        )
    mechanism = greeting[_MECHANISM].rstrip(b"\0")
    with contextlib.suppress(UnicodeDecodeError):
        return _Met(mechanism.decode("ascii"))
    return _Met("", _foreign(where))


def _foreign(where: str) -> Finding:
    return Finding(
        logging.WARNING,
        f"the program at {where} is no trainer: it does not speak ZeroMQ",
        "check the port in --connect: it is the one in the trainer's bind=…",
    )


def no_answer(where: str) -> Finding:
    """The finding for a ZeroMQ socket that has taken the handshake and answers no Hello."""
    return Finding(
        logging.WARNING,
        f"the program at {where} speaks ZeroMQ and does not answer as a trainer",
        "it is another program, or a trainer that is stopped or overloaded: check the port in --connect",
    )


def unknown_key(where: str) -> Finding:
    """The finding for a worker with a key that the trainer has rejected."""
    return Finding(
        logging.ERROR,
        f"the trainer at {where} does not know this worker's key: it was revoked, or is yet to be added",
        "on the trainer's machine, `enqueuer keygen DIR --list` shows the keys and --add-worker adds one",
        final=True,
    )


def _other_socket(where: str) -> Finding:
    """The finding for a ZeroMQ socket that no worker can talk to."""
    return Finding(
        logging.WARNING,
        f"the port of {where} is not the one for workers to connect to",
        "it is the trainer's second port, for batches, or another ZeroMQ program: --connect takes the port in the "
        "trainer's bind=…",
    )


def explain_keys(mechanism: str, where: str, refusal: Refusal | None, *, has_token: bool) -> Finding | None:
    """Return why a trainer of this mechanism refuses this worker's keys; None if the keys are not the reason."""
    if mechanism == "CURVE" and has_token:
        if refusal is not Refusal.UNCLEAR:
            return None
        return Finding(
            logging.ERROR,
            f"the trainer at {where} has other keys: this token was made with another coordinator.key",
            "copy the worker.token that is beside the trainer's coordinator.key (or is it the trainer's second port? "
            "--connect takes the port in its bind=…)",
            final=True,
        )
    if mechanism == "CURVE":
        return Finding(
            logging.ERROR,
            f"the trainer at {where} lets in only workers with a key",
            "give --token-file (or ENQUEUER_TOKEN_FILE) with the worker.token that is beside the trainer's "
            "coordinator.key",
            final=True,
        )
    if has_token:
        return Finding(
            logging.ERROR,
            f"the trainer at {where} has no keys, so it is not the one that this token is for",
            "it was started without key_file (or another program listens there)",
            final=True,
        )
    return None
