"""The reason why a coordinator refuses this machine, in words for the machine's owner.

A refused key is unambiguous (`Refusal.KEY`). Otherwise libzmq reports only that the handshake failed, and the remedy
differs: this worker lacks a token, has the wrong one, or has one for a trainer without keys. The coordinator's greeting
tells which, as it names its mechanism (CURVE or NULL) before any handshake:

    supervisor thread ── note ──► RefusalNotes ── starts ──► "enqueuer-ask" thread: connect, read 64 bytes, explain, log

So the notes open a TCP connection of their own. They do so in a daemon thread, because an answer may take
`_ASK_SECONDS` and the supervisor must go on serving its children, and at most once every `_NOTE_SECONDS` while the
refusal stays the same. A failure there costs no more than a vaguer line in the log.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading

from enqueuer.rate_limit import RateLimit
from enqueuer_worker.link import Refusal

_NOTE_SECONDS = 30.0
_ASK_SECONDS = 3.0
# ZMTP 3.1 (rfc.zeromq.org/spec/37): ten bytes of signature, two of version, twenty of mechanism, of 64 in all.
_SIGNATURE_AND_VERSION = b"\xff" + bytes(8) + b"\x7f\x03\x01"
_GREETING_BYTES = 64
_MECHANISM = slice(12, 32)


class RefusalNotes:
    """Logs each kind of refusal at once, and again every `_NOTE_SECONDS` while it stays the same."""

    def __init__(self, logger: logging.Logger, *, has_token: bool) -> None:
        self._logger = logger
        self._has_token = has_token
        self._last: Refusal | None = None
        # For the last kind of refusal; another kind begins with a new one.
        self._limit = RateLimit(1, 1 / _NOTE_SECONDS)

    def note(self, refusal: Refusal, address: str, now: float) -> None:
        """Log the reason of a refusal by the coordinator at ``address``, soon if it must be found out first."""
        if refusal is not self._last:
            self._last, self._limit = refusal, RateLimit(1, 1 / _NOTE_SECONDS)
        if not self._limit.take(now):
            return
        if refusal is Refusal.KEY:
            self._log(address, "does not know this worker's key: it was revoked, or is yet to be added")
        else:
            threading.Thread(target=self._find_out, args=(address,), name="enqueuer-ask", daemon=True).start()

    def _find_out(self, address: str) -> None:
        reason = explain(ask_mechanism(address), has_token=self._has_token)
        if reason is None:
            self._logger.warning("%s closes the connection before its greeting; trying again", address)
        else:
            self._log(address, reason)

    def _log(self, address: str, reason: str) -> None:
        self._logger.error("the coordinator at %s %s. Trying again now and then", address, reason)


def explain(mechanism: str | None, *, has_token: bool) -> str | None:
    """Return the reason of a failed handshake with a coordinator of this mechanism; None if it is not known."""
    if mechanism == "CURVE":
        if has_token:
            return "has other keys: this token was made with another coordinator.key"
        return "lets in only workers with a key: give --token-file, with a token that was made for it (enqueuer keygen)"
    if mechanism == "NULL" and has_token:
        return (
            "has no keys, so it is not the one that this token is for: it was started without key_file "
            "(or another program listens there)"
        )
    if mechanism == "":
        return "is no coordinator: the program that listens there does not speak ZeroMQ"
    return None


def ask_mechanism(address: str) -> str | None:
    """Ask a ZeroMQ socket at 'tcp://host:port' for its security mechanism: NULL or CURVE.

    '' if the other side does not speak ZeroMQ, None if it does not answer. It is sent only the beginning of a greeting.
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
