"""Admission by key: the ZAP handler of a coordinator's context, in a thread of its own.

One connection's admission, and the thread that does each step:

    libzmq        CURVE handshake; a failed one is an event of the socket's monitor ──► key thread logs the reason
    libzmq        asks the ZAP handler about the peer's key
    key thread    reads the key file again if it has changed, and answers yes or no
    libzmq        closes a refused connection; marks the messages of an admitted one with the key (User-Id)
    I/O thread    `key_of(frame)` for each message: the key, or None if it was revoked; `is_observer(key)`

So keys are added and revoked while the coordinator runs. libzmq cannot close one peer's connection, so messages of a
revoked key are refused instead. An error in this module admits no peer: without an answer libzmq closes the connection.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import zmq
from zmq.auth.base import Authenticator
from zmq.utils import z85

from enqueuer.errors import ConfigurationError
from enqueuer.rate_limit import RateLimit
from enqueuer.security.curve import ZAP_DOMAIN, secure_server
from enqueuer.security.keys import CoordinatorKey, fingerprint, read_coordinator_key
from enqueuer.security.monitor import new_monitor_address, receive_event

logger = logging.getLogger("enqueuer")

# Time between two checks of the key file while no peer connects: after it, messages of a revoked key are refused.
_LOOK_SECONDS = 1.0
# A refused worker tries again every few seconds; one line a minute about each is enough.
_REPEAT_SECONDS = 60.0
_MOST_REMEMBERED = 1_000
_WARNINGS_PER_MINUTE = 10
_USER_ID = "User-Id"
# Reasons of failed handshakes, by the value of their event. Other values are not logged.
_FAILURES: dict[int, str] = {
    zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: "it has no key (a worker without a token, or another program)",
    zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC: "it has a token that was made with another coordinator.key",
}


class Gatekeeper:
    """The keys of one coordinator's peers. Made and started before its sockets are bound; ends with its context.

    `secure` and `key_of` are for the I/O thread. Raises ConfigurationError if the key file cannot be used.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], key_file: str) -> None:
        self._key_file = key_file
        # In this order, so that a change in between is noticed at the first look.
        self._seen = _identity(key_file)
        self._key = read_coordinator_key(key_file)
        self._names = _names(self._key)
        # Written by the key thread, read by the I/O thread: replaced, never changed. A key on both lists observes.
        self._observers = _in_hex(self._key.observers)
        self._workers = _in_hex(self._key.workers) - self._observers
        self._is_readable = True
        self._context = context
        self._to_watch: deque[zmq.Socket[bytes]] = deque()
        self._refusals = RefusalLog()
        self._authenticator = _Authenticator(context, log=logger)
        self._authenticator.configure_curve_callback(ZAP_DOMAIN, self)
        self._authenticator.start()
        self._thread = threading.Thread(target=self._run, name="enqueuer-keys", daemon=True)

    def start(self) -> None:
        try:
            self._thread.start()
        except BaseException:
            self._authenticator.stop()  # otherwise the context could not end
            raise

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """Make this socket, which is not bound yet, admit only the keys that the key file lists."""
        secure_server(socket, self._key.secret_key)
        address = new_monitor_address()
        socket.monitor(address, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
        monitor = self._context.socket(zmq.PAIR)
        monitor.connect(address)
        # From here on the key thread owns the monitor, and closes it.
        self._to_watch.append(monitor)

    def key_of(self, frame: zmq.Frame) -> str | None:
        """The public key of this frame's sender, in hex; None if it was revoked."""
        key = self.worker_key_of(frame)
        if key is None and self._observers:
            key = _user_of(frame)
            return key if key in self._observers else None
        return key

    def worker_key_of(self, frame: zmq.Frame) -> str | None:
        """The public key of this frame's sender, in hex; None if it was revoked, or is an observer's."""
        key = _user_of(frame)
        return key if key in self._workers else None

    def is_observer(self, key: str) -> bool:
        """Whether this key can do nothing but observe."""
        return key in self._observers

    # ------------------------------------------------------------ the key thread

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._authenticator.zap_socket, zmq.POLLIN)
        try:
            while True:
                self._turn(poller)
        except zmq.ContextTerminated:
            pass
        except Exception:
            logger.exception("no new worker is admitted any more: the thread that reads the key file failed")
        finally:
            # The end of the context waits until they are closed.
            for socket in (*(socket for socket, _ in poller.sockets), *self._to_watch):
                socket.close(linger=0)

    def _turn(self, poller: zmq.Poller) -> None:
        zap = self._authenticator.zap_socket
        ready = dict(poller.poll(int(_LOOK_SECONDS * 1000)))
        if ready.pop(zap, None):
            self._answer(zap.recv_multipart())
        for monitor in ready:
            self._report_failure(receive_event(monitor).value)
        self._look()
        while self._to_watch:
            poller.register(self._to_watch.popleft(), zmq.POLLIN)

    def _report_failure(self, code: int) -> None:
        text = _FAILURES.get(code)
        if text is not None:
            self._refusals.warn(text, f"refused a connection: {text}")

    def _answer(self, request: Sequence[bytes]) -> None:
        self._look()
        # A coroutine that never waits, since our callback does not: one step finishes it.
        answering = self._authenticator.handle_zap_message(list(request))
        try:
            with contextlib.suppress(StopIteration):
                answering.send(None)
        except zmq.ContextTerminated:
            raise
        except Exception:
            logger.exception("refused a connection: its key could not be checked")

    def callback(self, _domain: str, key: bytes) -> bool:
        """Whether to admit this key (Z85). Called by `zmq.auth`."""
        public_key = z85.decode(key)
        if self._is_readable and public_key in self._names:
            return True
        if self._is_readable:
            self._refusals.warn(
                fingerprint(public_key),
                f"refused a connection: its key {fingerprint(public_key)} is not in {self._key_file}",
            )
        return False

    def _look(self) -> None:
        """Read the key file again if it has changed."""
        seen = _identity(self._key_file)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            key = read_coordinator_key(self._key_file)
        except ConfigurationError as error:
            self._is_readable = False
            logger.error("%s; no new worker is admitted until that is mended", error)
            return
        self._is_readable = True
        if key.secret_key != self._key.secret_key:
            logger.warning("%s has a new key for the coordinator: it takes effect at the next start()", self._key_file)
        names = _names(key)
        for public in self._names.keys() - names.keys():
            logger.info("key %s (%s) was revoked", fingerprint(public), self._names[public])
        for public in names.keys() - self._names.keys():
            logger.info("key %s (%s) is let in from now on", fingerprint(public), names[public])
        self._names, self._observers = names, _in_hex(key.observers)
        self._workers = _in_hex(key.workers) - self._observers


class RefusalLog:
    """Warnings that any host on the network can cause: about each subject one a minute, and ten a minute in all."""

    def __init__(self) -> None:
        self._limits: OrderedDict[str, RateLimit] = OrderedDict()
        self._limit = RateLimit(_WARNINGS_PER_MINUTE, _WARNINGS_PER_MINUTE / 60)
        self._unlogged_count = 0

    def warn(self, subject: str, text: str) -> None:
        now = time.monotonic()
        if not self._limits.setdefault(subject, RateLimit(1, 1 / _REPEAT_SECONDS)).take(now):
            return
        while len(self._limits) > _MOST_REMEMBERED:
            self._limits.popitem(last=False)
        if not self._limit.take(now):
            self._unlogged_count += 1
            return
        logger.warning("%s%s", text, f" (and {self._unlogged_count} more before)" if self._unlogged_count else "")
        self._unlogged_count = 0


class _Authenticator(Authenticator):
    def curve_user_id(self, client_public_key: bytes) -> str:
        """The User-Id of a peer's messages: its key, as a name may be given to another key later."""
        return client_public_key.hex()


def _names(key: CoordinatorKey) -> dict[bytes, str]:
    """The names of all admitted peers, by public key."""
    return {public: name for name, public in (*key.workers.items(), *key.observers.items())}


def _in_hex(peers: Mapping[str, bytes]) -> frozenset[str]:
    return frozenset(public.hex() for public in peers.values())


def _user_of(frame: zmq.Frame) -> str | None:
    try:
        return str(frame.get(_USER_ID))
    except zmq.ZMQError:
        return None


def _identity(path: str) -> tuple[int, ...] | None:
    """A value that changes with the file, also if a symbolic link to it is redirected (as Kubernetes does)."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode
