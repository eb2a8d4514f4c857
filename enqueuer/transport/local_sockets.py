"""The coordinator's end of the links to its own processes: a listening Unix socket, and a stream for each process.

The counterpart of `CoordinatorSockets` for processes of the same trainer: the same messages, and no thread of
libzmq between the sender and the receiver.
"""

from __future__ import annotations

import contextlib
import logging
import struct
import time
from collections import deque
from pathlib import Path
from typing import Any

import zmq

from enqueuer.transport.message_stream import MessageStream
from enqueuer.transport.sockets import MAX_CONTROL_BYTES, NO_KEY
from enqueuer.transport.unix_listener import listen_at

logger = logging.getLogger("enqueuer")

_BACKLOG = 1_024
_POLLIN, _POLLINOUT = int(zmq.POLLIN), int(zmq.POLLIN | zmq.POLLOUT)
_ROUTE = struct.Struct("<Q")


class LocalSockets:
    """A listening socket, and a stream for each process. The I/O thread alone uses it.

    Raises OSError if the path cannot be bound.
    """

    ports: frozenset[int] = frozenset()

    def __init__(self, path: Path) -> None:
        self.control_endpoint = self.data_endpoint = f"unix://{path}"
        self._path = path
        self._poller: zmq.Poller | None = None
        self._streams: dict[int, MessageStream] = {}
        # A connection's route: descriptors are used again, routes never.
        self._routes: dict[bytes, MessageStream] = {}
        self._route_of: dict[int, bytes] = {}
        self._accepted_count = 0
        self._control: deque[list[bytes]] = deque()
        self._data: deque[list[memoryview]] = deque()
        # Whether connections wait for a free descriptor. The poller would report them without end.
        self._is_paused = False
        self._listener = listen_at(path, _BACKLOG)

    def register(self, poller: zmq.Poller) -> None:
        """Have the poller look for input of each process, from now on also of those to come."""
        self._poller = poller
        poller.register(self._listener.fileno(), _POLLIN)

    def read(self, readable: dict[Any, int]) -> tuple[bool, bool]:
        """Read what a poll has found; whether there are control messages now, and whether there are results."""
        for fd in self._streams.keys() & readable.keys():
            stream = self._streams[fd]
            if readable[fd] & ~_POLLIN:
                self._flush(stream)
            if readable[fd] & ~zmq.POLLOUT:
                self._receive(fd, stream)
        if self._is_paused or self._listener.fileno() in readable:
            self._accept()
        return bool(self._control), bool(self._data)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                self._pause(False)
                return
            except OSError as error:
                if not self._is_paused:
                    logger.warning("a local process cannot connect: %s; trying again", error.strerror)
                self._pause(True)
                return
            stream = MessageStream(connection)
            self._accepted_count += 1
            route = _ROUTE.pack(self._accepted_count)
            self._streams[stream.fd] = self._routes[route] = stream
            self._route_of[stream.fd] = route
            assert self._poller is not None
            self._poller.register(stream.fd, _POLLIN)
            self._receive(stream.fd, stream)

    def _pause(self, is_paused: bool) -> None:
        """Look for connections in each turn of the loop instead of having the poller report them, or the other way."""
        assert self._poller is not None
        if is_paused and not self._is_paused:
            self._poller.unregister(self._listener.fileno())
        elif self._is_paused and not is_paused:
            self._poller.register(self._listener.fileno(), _POLLIN)
        self._is_paused = is_paused

    def _receive(self, fd: int, stream: MessageStream) -> None:
        route = self._route_of[fd]
        try:
            for is_data, frames in stream.receive():
                if is_data:
                    self._data.append(frames)
                else:
                    if len(frames) == 1 and len(frames[0]) > MAX_CONTROL_BYTES:
                        raise ValueError("a control message is too large")
                    self._control.append([route, *map(bytes, frames)])
        except ValueError as error:
            logger.warning("closed the connection of a local process that sent %s", error)
            stream.has_ended = True
        if stream.has_ended:
            self._forget(fd)

    def _forget(self, fd: int) -> None:
        assert self._poller is not None
        self._poller.unregister(fd)
        del self._routes[self._route_of.pop(fd)]
        self._streams.pop(fd).close()

    def send(self, address: bytes, frame: bytes) -> bool:
        """Send one control message to this route; False if that process is gone."""
        stream = self._routes.get(address)
        if stream is None:
            return False
        stream.send([frame], is_data=False)
        if stream.is_waiting:
            assert self._poller is not None
            self._poller.register(stream.fd, _POLLINOUT)
        return True

    def _flush(self, stream: MessageStream) -> None:
        stream.flush()
        if not stream.is_waiting:
            assert self._poller is not None
            self._poller.register(stream.fd, _POLLIN)

    def receive_control(self) -> tuple[list[bytes], str | None] | None:
        """The frames of the next control message, beginning with the route, and no key; None if there is none."""
        return (self._control.popleft(), NO_KEY) if self._control else None

    def receive_data(self) -> tuple[list[memoryview], str | None] | None:
        """The frames of the next result message, and no key; None if there is none."""
        return (self._data.popleft(), NO_KEY) if self._data else None

    def wait_for_disconnects(self, peers_count: int, timeout: float) -> None:
        """Return at once: peers can read what was sent after the close, too."""

    def close(self, linger_seconds: float = 0.0) -> None:
        """Close all; ``linger_seconds`` gives the last control messages time to leave."""
        deadline = time.monotonic() + linger_seconds
        for stream in list(self._streams.values()):
            while stream.is_waiting and time.monotonic() < deadline:
                stream.flush()
                time.sleep(0.001)
            stream.close()
        self._streams.clear()
        self._routes.clear()
        self._route_of.clear()
        self._listener.close()
        with contextlib.suppress(OSError):
            self._path.unlink()
