"""The link of a local worker or supervisor: one Unix stream to its trainer, for control and results.

It has the interface of `Link`. A stream keeps its order, and each end sees at once when the other one is gone.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Sequence
from typing import Any

import zmq

from enqueuer.transport.message_stream import MessageStream

_SCHEME = "unix://"
# A trainer that takes nothing for this long is stopped, or waits for its interpreter.
_READ_SECONDS = 0.05
_POLLIN, _POLLOUT = int(zmq.POLLIN), int(zmq.POLLOUT)


def is_local(address: str) -> bool:
    """Whether the address names a trainer's Unix socket."""
    return address.startswith(_SCHEME)


class LocalLink:
    """A local worker's link over one Unix stream. ``address`` is the trainer's, for the next connection."""

    control = None
    refusal = None
    has_no_data_port = False
    # There is no network on the way.
    is_sending = False
    data_due = math.inf

    def __init__(self, poller: zmq.Poller, address: str) -> None:
        self.address = address
        self.broken = False
        self._poller = poller
        self._stream: MessageStream | None = None
        self._watching_writable = False

    def open_control(self) -> None:
        """Close the connection, if there is one, and connect."""
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(self.address.removeprefix(_SCHEME))
        except OSError:
            connection.close()
            self.broken = True
            return
        self._stream = MessageStream(connection)
        self._poller.register(self._stream.fd, _POLLIN)

    def open_data(self, _endpoint: str, _now: float) -> str:
        """Open nothing, since results take the stream of control messages; returns that stream's address."""
        return self.address

    def close(self, *, flush: bool = False) -> None:
        """Close the connection and drop unsent messages."""
        stream, self._stream = self._stream, None
        self.broken = self._watching_writable = False
        if stream is not None:
            if flush:
                stream.flush()
            self._poller.unregister(stream.fd)
            stream.close()

    def send_control(self, frame: bytes, *, replaces_waiting: bool = False) -> None:
        """Send or keep one control message, if there is a connection."""
        del replaces_waiting  # nothing waits before a connection is there
        self._send([frame], is_data=False)

    def send_data(self, frames: Sequence[Any]) -> None:
        """Send one message of results, if there is a connection. While the trainer does not read, the rest is kept."""
        self._send(frames, is_data=True)

    def _send(self, frames: Sequence[Any], *, is_data: bool) -> None:
        stream = self._stream
        if stream is None:
            return
        stream.send(frames, is_data=is_data)
        if stream.is_waiting:
            # More than the socket holds. The trainer reads at once, so waiting for it is shorter than the next turn.
            while stream.is_waiting and stream.wait_until_writable(_READ_SECONDS):
                stream.flush()
            self._watch()

    def _watch(self) -> None:
        stream = self._stream
        assert stream is not None
        if stream.is_waiting is not self._watching_writable:
            self._watching_writable = stream.is_waiting
            self._poller.register(stream.fd, _POLLIN | (_POLLOUT if stream.is_waiting else 0))

    def handle(self, ready: dict[Any, int]) -> list[bytes]:
        """Serve the stream after a poll; returns the control messages that have arrived, in order."""
        stream = self._stream
        if stream is None:
            return []
        found = ready.get(stream.fd, 0)
        if not found:
            return []
        if found & _POLLOUT:
            stream.flush()
            self._watch()
        try:
            messages = stream.receive() if found & ~_POLLOUT else []
        except ValueError:
            self.broken = True
            return []
        self.broken = stream.has_ended
        return [bytes(message.frames[0]) for message in messages if len(message.frames) == 1]
