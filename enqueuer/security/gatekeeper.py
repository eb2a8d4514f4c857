"""Who may come in: the ZAP handler of a coordinator's context, in a thread of its own.

It reads the key file again whenever that has changed, so keys are added and revoked while it runs. Whatever goes wrong
here, nobody gets in by it: without an answer libzmq closes the connection.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import struct
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from pathlib import Path

import zmq
from zmq.auth.base import Authenticator
from zmq.utils import z85

from enqueuer.errors import ConfigurationError
from enqueuer.security.curve import ZAP_DOMAIN, secure_server
from enqueuer.security.keys import fingerprint, read_coordinator_key

logger = logging.getLogger("enqueuer")

# How often the key file is looked at while nobody knocks: a revoked worker is cut off after that long.
_LOOK_SECONDS = 1.0
# A worker that is refused tries again every few seconds; a line a minute about each is enough.
_NOTE_SECONDS = 60.0
_MOST_NOTED = 1_000
_NOTES_PER_MINUTE = 10
_USER_ID = "User-Id"
# An event's number (16 bits) and value (32 bits) are the first frame of what a socket's monitor sends.
_MONITOR_EVENT = struct.Struct("=Hi")
_FAILURES: dict[int, str] = {
    zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: "it has no key (a worker without a token, or somebody else)",
    zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC: "it has a token that was made with another coordinator.key",
}
_monitor_numbers = itertools.count()


class Gatekeeper:
    """Made and started before the sockets are bound; ends with its context.

    `key_of` is for the thread that reads the sockets, and costs a lookup. Raises ConfigurationError for a key file that
    is not right.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], key_file: str) -> None:
        self._key_file = key_file
        # In this order: what changes in between is seen at the first look.
        self._seen = _identity(key_file)
        self._key = read_coordinator_key(key_file)
        self._names = {public: name for name, public in self._key.workers.items()}
        # Replaced whole, never changed: another thread reads it.
        self._admitted = frozenset(public.hex() for public in self._names)
        self._is_readable = True
        self._context = context
        self._to_watch: deque[zmq.Socket[bytes]] = deque()
        self._notes = Notes()
        self._authenticator = _Authenticator(context, log=logger)
        self._authenticator.configure_curve_callback(ZAP_DOMAIN, self)
        self._authenticator.start()
        self._thread = threading.Thread(target=self._run, name="enqueuer-keys", daemon=True)

    def start(self) -> None:
        try:
            self._thread.start()
        except BaseException:
            self._authenticator.stop()  # else the end of the context would wait for it
            raise

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """Have this socket, which is not bound yet, let in only whom the key file lists."""
        secure_server(socket, self._key.secret_key)
        address = f"inproc://enqueuer-handshakes-{next(_monitor_numbers)}"
        socket.monitor(address, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
        monitor = self._context.socket(zmq.PAIR)
        monitor.connect(address)
        # The thread's from here on, which also closes it.
        self._to_watch.append(monitor)

    def key_of(self, frame: zmq.Frame) -> str | None:
        """The public key of who sent this frame; None if it is not let in any more."""
        try:
            key = str(frame.get(_USER_ID))
        except zmq.ZMQError:
            return None
        return key if key in self._admitted else None

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._authenticator.zap_socket, zmq.POLLIN)
        try:
            while True:
                self._turn(poller)
        except zmq.ContextTerminated:
            pass
        except Exception:
            logger.exception("nobody new gets in any more: the thread that reads the key file failed")
        finally:
            # Whatever happened: the end of the context waits for them.
            for socket in (*(socket for socket, _ in poller.sockets), *self._to_watch):
                socket.close(linger=0)

    def _turn(self, poller: zmq.Poller) -> None:
        zap = self._authenticator.zap_socket
        ready = dict(poller.poll(int(_LOOK_SECONDS * 1000)))
        if ready.pop(zap, None):
            self._answer(zap.recv_multipart())
        for monitor in ready:
            self._note_failure(*_MONITOR_EVENT.unpack(monitor.recv_multipart()[0]))
        self._look()
        while self._to_watch:
            poller.register(self._to_watch.popleft(), zmq.POLLIN)

    def _note_failure(self, _event: int, code: int) -> None:
        text = _FAILURES.get(code)
        if text is not None:
            self._notes.note(text, f"refused a connection: {text}")

    def _answer(self, request: Sequence[bytes]) -> None:
        self._look()
        # It never waits for anything, since our callback does not: one step brings it to its end.
        answering = self._authenticator.handle_zap_message(list(request))
        try:
            with contextlib.suppress(StopIteration):
                answering.send(None)
        except zmq.ContextTerminated:
            raise
        except Exception:
            logger.exception("a handshake could not be judged, so it fails")

    def callback(self, _domain: str, key: bytes) -> bool:
        """Whether to let this key (Z85) in; `zmq.auth` asks."""
        public_key = z85.decode(key)
        if self._is_readable and public_key.hex() in self._admitted:
            return True
        if self._is_readable:
            self._notes.note(
                fingerprint(public_key),
                f"refused a worker: its key {fingerprint(public_key)} is not in {self._key_file}",
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
            logger.error("%s; until that is mended nobody new gets in", error)
            return
        self._is_readable = True
        if key.secret_key != self._key.secret_key:
            logger.warning("%s has new keys for the coordinator: they count from the next start()", self._key_file)
        names = {public: name for name, public in key.workers.items()}
        for public in self._names.keys() - names.keys():
            logger.info("key %s (%s) was revoked", fingerprint(public), self._names[public])
        for public in names.keys() - self._names.keys():
            logger.info("key %s (%s) is let in from now on", fingerprint(public), names[public])
        self._names, self._admitted = names, frozenset(public.hex() for public in names)


class Notes:
    """Warnings that anybody on the network can cause: each at most once a minute, and few in all."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, float] = OrderedDict()
        self._minute = 0.0
        self._count = 0

    def note(self, about: str, text: str) -> None:
        now = time.monotonic()
        if now - self._last.get(about, -_NOTE_SECONDS) < _NOTE_SECONDS:
            return
        if now - self._minute >= _NOTE_SECONDS:
            if self._count > _NOTES_PER_MINUTE:
                logger.warning("and %d more in that minute", self._count - _NOTES_PER_MINUTE)
            self._minute, self._count = now, 0
        self._last[about] = now
        while len(self._last) > _MOST_NOTED:
            self._last.popitem(last=False)
        self._count += 1
        if self._count <= _NOTES_PER_MINUTE:
            logger.warning("%s", text)


class _Authenticator(Authenticator):
    def curve_user_id(self, client_public_key: bytes) -> str:
        """Its messages carry this: the key, and not a name that another key may be given later."""
        return client_public_key.hex()


def _identity(path: str) -> tuple[int, ...] | None:
    """Changes with the file, also where a symbolic link to it is turned (as Kubernetes does)."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode
