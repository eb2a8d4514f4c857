"""The trainer's Unix socket for observers of its own user, so that a trainer without ``bind`` can be seen as well.

    listener ──► a stream for each observer ──► `Observe` alone ──► event for the core ──► snapshot

Nothing of it is looked at in the turns of the I/O thread: the loop watches the listener and the streams, and calls back
when one of them becomes readable. Whatever is no `Observe` ends its connection, and so does a flood, and a peer that
does not read its snapshots.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable

from enqueuer.core.events import ControlReceived, Event, Right, Route
from enqueuer.errors import ProtocolError
from enqueuer.monitoring.trainer_sockets import new_socket_path
from enqueuer.protocol.control_codec import decode_control
from enqueuer.protocol.messages import NO_ID, Observe
from enqueuer.transport.message_stream import MessageStream
from enqueuer.transport.unix_listener import listen_at

logger = logging.getLogger("enqueuer")

# The name of the channel in routes of these observers.
OBSERVERS = "observers"
_MOST_CONNECTIONS = 32
# An observer asks for all pages of a large fleet at once: some ten. More in one read is a flood.
_MOST_AT_ONCE = 64
_ROUTE = struct.Struct("<Q")


Watch = Callable[[int, Callable[[], None]], None]


def open_observer_sockets(
    watch: Watch, post: Callable[[Event], None], ignores: Callable[[Route], bool]
) -> ObserverSockets | None:
    """Open the socket; None, with a line in the log at DEBUG, if that is not possible here."""
    try:
        return ObserverSockets(watch, post, ignores)
    except OSError as error:
        logger.debug("`enqueuer status` does not find this trainer by itself: %s", error)
        return None


class ObserverSockets:
    """A listening socket, and a stream for each observer. The I/O thread uses it once the loop runs.

    ``watch`` and ``post`` are those of the loop. ``ignores`` tells which peers are banned. Raises OSError if the socket
    cannot be made.
    """

    def __init__(self, watch: Watch, post: Callable[[Event], None], ignores: Callable[[Route], bool]) -> None:
        self._watch = watch
        self._post = post
        self._ignores = ignores
        self._streams: dict[bytes, MessageStream] = {}
        self._accepted_count = 0
        self._owner = os.getpid()
        self._path = new_socket_path()
        self._listener = listen_at(self._path)

    def begin(self) -> None:
        """Take connections from now on; the loop runs."""
        self._watch(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            pass  # it left before its turn
        except OSError as error:
            # Watched on, the listener would be readable in each turn of the loop.
            logger.warning("observers of this machine cannot connect any more: %s", error.strerror)
            return
        else:
            self._add(connection)
        self._watch(self._listener.fileno(), self._accept)

    def _add(self, connection: socket.socket) -> None:
        if len(self._streams) >= _MOST_CONNECTIONS:
            connection.close()
            return
        self._accepted_count += 1
        address = _ROUTE.pack(self._accepted_count)
        self._streams[address] = stream = MessageStream(connection)
        self._watch(stream.fd, lambda: self._read(address))

    def _read(self, address: bytes) -> None:
        stream, route = self._streams[address], Route(OBSERVERS, address)
        try:
            requests = [_decode(list(message.frames)) for message in stream.receive()]
        except (ProtocolError, ValueError):
            requests = []
            stream.has_ended = True
        if stream.has_ended or len(requests) > _MOST_AT_ONCE or self._ignores(route):
            self._streams.pop(address).close()
            return
        for request in requests:
            self._post(ControlReceived(route, NO_ID, request, right=Right.OBSERVE))
        self._watch(stream.fd, lambda: self._read(address))

    def send(self, address: bytes, frame: bytes) -> bool:
        """Send one message to this observer; False if it is gone, or does not read."""
        stream = self._streams.get(address)
        if stream is None:
            return False
        stream.send([frame], is_data=False)
        if stream.is_waiting:
            # The socket holds more than an allowance. The loop reads the end of the stream, and forgets it.
            with contextlib.suppress(OSError):
                stream.socket.shutdown(socket.SHUT_RDWR)
            return False
        return True

    def close(self) -> None:
        """Close all. The loop has ended, or this is a forked child, which leaves the file to its parent."""
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()
        self._listener.close()
        if os.getpid() == self._owner:
            with contextlib.suppress(OSError):
                self._path.unlink()


def _decode(frames: list[memoryview]) -> Observe:
    """The request in these frames. Raises ProtocolError for anything else."""
    if len(frames) == 1:
        _, message = decode_control(frames[0])
        if isinstance(message, Observe):
            return message
    raise ProtocolError("an observer can do nothing but observe")
