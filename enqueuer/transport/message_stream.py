"""Multipart messages over one connected Unix socket, in both directions, without waiting.

    prefix   flags and number of frames (u32), size of the rest (u64)
    sizes    of each frame (u64)
    frames   end to end

One stream carries control and result messages, in their order; the flag in the prefix distinguishes them. A thread
reads straight from the kernel; a ZeroMQ socket would need another thread. Both ends are processes of one trainer.
"""

from __future__ import annotations

import select
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

_PREFIX = struct.Struct("<IQ")
_IS_DATA = 1 << 31
# A read takes this much; a message of up to this size comes with one read.
_READ_BYTES = 128 * 1024
# Smaller messages are copied into one buffer, which costs less than a list of buffers for the kernel.
_JOIN_BYTES = 32 * 1024
# The kernel takes 1 024 buffers at once (IOV_MAX).
_MOST_BUFFERS = 1_000
# A third of a 24 GiB machine; a larger message is a defect of the other end.
_MAX_BYTES = 8 * 1024**3


class StreamMessage(NamedTuple):
    """One message: whether it holds results, and its frames, views of the memory of one read."""

    is_data: bool
    frames: list[memoryview]


class MessageStream:
    """One end of a connection. One thread uses it.

    ``has_ended`` is set once the other end has closed and all of its messages are read, or the connection broke.
    While ``is_waiting``, the socket takes no more: call `flush` once it is writable.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.fd = connection.fileno()
        self.has_ended = False
        self._unsent: deque[Any] = deque()
        # The beginning of a message; the rest has not arrived.
        self._head = b""
        # A large message in the middle of its arrival: its memory, and how much of it is filled.
        self._large: memoryview | None = None
        self._filled = 0

    # ------------------------------------------------------------ sending

    @property
    def is_waiting(self) -> bool:
        """Whether something is kept until the socket is writable."""
        return bool(self._unsent)

    def send(self, frames: Sequence[Any], *, is_data: bool) -> None:
        """Send one message. The part beyond the socket's room is kept; after the connection's end it is dropped."""
        sizes = [len(frame) for frame in frames]
        count = len(sizes)
        table = struct.pack(f"<{count}Q", *sizes)
        total = sum(sizes) + len(table)
        prefix = _PREFIX.pack(count | _IS_DATA if is_data else count, total) + table
        if total <= _JOIN_BYTES:
            self._unsent.append(b"".join([prefix, *frames]))
        else:
            self._unsent.append(prefix)
            self._unsent.extend(frame if type(frame) is bytes else memoryview(frame).cast("B") for frame in frames)
        if len(self._unsent) <= count + 1:
            self.flush()

    def flush(self) -> None:
        """Send kept bytes as far as the socket takes them."""
        unsent = self._unsent
        while unsent and not self.has_ended:
            try:
                if len(unsent) == 1:
                    sent = self.socket.send(unsent[0])
                else:
                    sent = self.socket.sendmsg([unsent[at] for at in range(min(len(unsent), _MOST_BUFFERS))])
            except BlockingIOError:
                return
            except OSError:
                # Arrived bytes of the other end are still to be read, so this does not end the stream.
                unsent.clear()
                return
            while unsent and sent >= len(unsent[0]):
                sent -= len(unsent.popleft())
            if sent:
                unsent[0] = memoryview(unsent[0])[sent:]

    def wait_until_writable(self, timeout: float) -> bool:
        """Wait until the socket takes more, at most ``timeout`` seconds; True if it does, or if it has broken."""
        poll = select.poll()  # `select.select` knows no descriptor above 1 023
        poll.register(self.fd, select.POLLOUT)
        return bool(poll.poll(timeout * 1000))

    # ------------------------------------------------------------ receiving

    def receive(self) -> list[StreamMessage]:
        """Take the messages that have arrived whole. Raises ValueError for bytes that cannot begin a message."""
        messages: list[StreamMessage] = []
        try:
            while self._read(messages):
                pass
        except BlockingIOError:
            pass
        except OSError:
            self.has_ended = True
        return messages

    def _read(self, messages: list[StreamMessage]) -> bool:
        """Read once; False if that took all there was."""
        if self._large is not None:
            count = self.socket.recv_into(self._large[self._filled :])
            if count == 0:
                self.has_ended = True
                return False
            self._filled += count
            if self._filled == len(self._large):
                whole, self._large = self._large, None
                self._split(whole, messages)
            return True
        chunk = self.socket.recv(_READ_BYTES)
        if not chunk:
            self.has_ended = True
            return False
        self._split(memoryview(self._head + chunk if self._head else chunk), messages)
        return len(chunk) == _READ_BYTES

    def _split(self, view: memoryview, messages: list[StreamMessage]) -> None:
        """Add the whole messages in ``view``; keep the rest as the next one's beginning."""
        start, size = 0, len(view)
        missing = 0
        while size - start >= _PREFIX.size:
            flags, total = _PREFIX.unpack_from(view, start)
            count = flags & ~_IS_DATA
            if total > _MAX_BYTES or 8 * count > total:
                raise ValueError(f"a message of {count} frames and {total} bytes")
            at = start + _PREFIX.size
            end = at + total
            if end > size:
                missing = end - size
                break
            sizes = struct.unpack_from(f"<{count}Q", view, at)
            at += 8 * count
            frames = []
            for length in sizes:
                frames.append(view[at : at + length])
                at += length
            if at != end:
                raise ValueError(f"a message of {total} bytes has frames of {sum(sizes)}")
            messages.append(StreamMessage(bool(flags & _IS_DATA), frames))
            start = end
        rest = view[start:]
        if missing > _READ_BYTES:
            memory = memoryview(bytearray(len(rest) + missing))
            memory[: len(rest)] = rest
            self._large, self._filled, self._head = memory, len(rest), b""
        else:
            self._head = bytes(rest)

    def close(self) -> None:
        """Close the socket and drop kept bytes."""
        self._unsent.clear()
        self.has_ended = True
        self.socket.close()
