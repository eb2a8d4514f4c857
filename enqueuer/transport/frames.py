"""Multipart messages to and from a socket, never waiting; raises zmq.Again where the socket cannot.

pyzmq's own send_multipart and recv_multipart take twice as long for a small message: they combine enumerations, check
each frame's type, and ask the socket's options after each whether another one follows, which the frame itself knows.

Whether there is a message is found by trying: with keys, a socket's EVENTS say that it is readable when nothing comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import zmq

_NOBLOCK = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


def send_frames(socket: zmq.Socket[bytes], frames: Sequence[Any], *, copy: bool = True) -> None:
    """All of it, or nothing: only the first frame can find no room. ``copy`` False: what is large is not copied."""
    for frame in frames[:-1]:
        socket.send(frame, _MORE, copy)
    socket.send(frames[-1], _NOBLOCK, copy)


def receive_frames(socket: zmq.Socket[bytes]) -> list[zmq.Frame]:
    """The next message; its frames' memory is libzmq's."""
    frame = socket.recv(_NOBLOCK, False)
    frames = [frame]
    while frame.more:
        frame = socket.recv(_NOBLOCK, False)
        frames.append(frame)
    return frames
