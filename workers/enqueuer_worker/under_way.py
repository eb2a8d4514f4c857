"""Asks the kernel whether a TCP connection has more to send than the network takes.

libzmq queues without a limit, so no send ever waits, and its queue is hidden. The kernel knows the bytes still to go
out (`TCP_INFO`). A receiver may put an acknowledgement off for 40 ms, so up to two segments without one say nothing.
"""

from __future__ import annotations

import socket
import struct

# Fields of `struct tcp_info` in linux/tcp.h: segments without an acknowledgement, and bytes not sent even once.
_UNACKNOWLEDGED = struct.Struct("=24xI")
_NOT_SENT = struct.Struct("=144xI")
_PUT_OFF = 2


def has_bytes_under_way(fd: int) -> bool:
    """Whether the connection with this descriptor has unsent bytes; False where the kernel does not say."""
    if not hasattr(socket, "TCP_INFO"):
        return False
    try:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=fd)
    except OSError:  # closed by now
        return False
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except OSError:
        return False
    finally:
        connection.detach()
    if len(info) < _NOT_SENT.size:
        return False
    (not_sent,), (unacknowledged,) = _NOT_SENT.unpack_from(info), _UNACKNOWLEDGED.unpack_from(info)
    return bool(not_sent or unacknowledged > _PUT_OFF)
