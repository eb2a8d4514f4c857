"""Why a coordinator does not let this machine in, in words for its owner."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from enum import Enum, auto

# While nothing changes, a line now and then is enough.
_NOTE_INTERVAL = 30.0
_ASK_SECONDS = 3.0
# ZMTP 3.1 (rfc.zeromq.org/spec/37): ten bytes of signature, two of version, twenty of mechanism, of 64 in all.
_SIGNATURE_AND_VERSION = b"\xff" + bytes(8) + b"\x7f\x03\x01"
_GREETING_BYTES = 64
_MECHANISM = slice(12, 32)


class Refusal(Enum):
    """How a handshake failed."""

    KEY = auto()
    """The coordinator said that it does not let this key in."""
    UNCLEAR = auto()
    """It hung up: one side has keys and the other has not, or it is another coordinator's token."""


class RefusalNotes:
    """Says it in the supervisor's log: at once, and every half minute while it stays the same."""

    def __init__(self, logger: logging.Logger, *, has_token: bool) -> None:
        self._logger = logger
        self._has_token = has_token
        self._last: Refusal | None = None
        self._noted_at = 0.0

    def note(self, refusal: Refusal, address: str, now: float) -> None:
        if refusal is self._last and now < self._noted_at + _NOTE_INTERVAL:
            return
        self._last, self._noted_at = refusal, now
        if refusal is Refusal.KEY:
            self._say(address, "does not know this worker's key: it was revoked, or is yet to be added")
        else:
            # Who asks waits for an answer, and the supervisor has other things to do.
            threading.Thread(target=self._find_out, args=(address,), name="enqueuer-ask", daemon=True).start()

    def _find_out(self, address: str) -> None:
        reason = explain(ask_mechanism(address), has_token=self._has_token)
        if reason is None:
            self._logger.warning("%s breaks off before it has said anything; trying again", address)
        else:
            self._say(address, reason)

    def _say(self, address: str, reason: str) -> None:
        self._logger.error("the coordinator at %s %s. Trying again now and then", address, reason)


def explain(mechanism: str | None, *, has_token: bool) -> str | None:
    """What keeps a worker out whose handshake failed there; None if that is not known."""
    if mechanism == "CURVE":
        if has_token:
            return "has other keys: this token was made with another coordinator.key"
        return "lets in only workers with a key: give --token-file, with a token that was made for it (enqueuer keygen)"
    if mechanism == "NULL" and has_token:
        return (
            "has no keys, so it is not the one that this token is for: it was started without key_file "
            "(or somebody else listens there)"
        )
    if mechanism == "":
        return "is no coordinator: whoever listens there does not speak ZeroMQ"
    return None


def ask_mechanism(address: str) -> str | None:
    """How ZeroMQ at 'tcp://host:port' wants to be spoken to: NULL or CURVE; '' if that is no ZeroMQ, None if nobody
    answers. It hears nothing from us but the beginning of a greeting.
    """
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    greeting = b""
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ASK_SECONDS) as connection:
            connection.sendall(_SIGNATURE_AND_VERSION)
            while len(greeting) < _GREETING_BYTES and (part := connection.recv(_GREETING_BYTES - len(greeting))):
                greeting += part
                if greeting[0] != _SIGNATURE_AND_VERSION[0]:
                    return ""
    except (OSError, ValueError):
        return None
    mechanism = greeting[_MECHANISM].rstrip(b"\0")
    with contextlib.suppress(UnicodeDecodeError):
        return mechanism.decode("ascii") if len(greeting) == _GREETING_BYTES else None
    return ""
