"""Sends and receives multipart messages without waiting; raises zmq.Again if the socket would block.

pyzmq's own send_multipart and recv_multipart take twice as long for a small message: they combine enumerations, check
each frame's type, and after each frame ask the socket whether another one follows, although the frame itself knows.

Callers try to receive instead of reading a socket's EVENTS: with CURVE, these report messages when there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import zmq

_NOBLOCK = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


def send_frames(socket: zmq.Socket[bytes], frames: Sequence[Any], *, copy: bool = True) -> None:
    """Send all frames or none: only the first can raise zmq.Again. ``copy=False`` saves the copy of large frames."""
    for frame in frames[:-1]:
        socket.send(frame, _MORE, copy)
    socket.send(frames[-1], _NOBLOCK, copy)


def receive_frames(socket: zmq.Socket[bytes]) -> list[zmq.Frame]:
    """The next message, as frames in libzmq's memory. Raises zmq.Again if there is none."""
    frame = socket.recv(_NOBLOCK, False)
    frames = [frame]
    while frame.more:
        frame = socket.recv(_NOBLOCK, False)
        frames.append(frame)
    return frames
