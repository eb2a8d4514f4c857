"""Events of a socket's monitor: connections and handshakes, as libzmq reports them.

The gatekeeper and the worker's link read them. The file is in `security`, not in `transport`, because `transport` may
import `security` and not the other way round. pyzmq's `zmq.utils.monitor` would do, but it imports asyncio: 40 ms and
7 MB for each worker process.
"""

from __future__ import annotations

import itertools
import struct
from typing import NamedTuple

import zmq

# The first frame of a monitor's message: the event's number (16 bits) and value (32 bits), without padding.
_EVENT = struct.Struct("=Hi")
_address_numbers = itertools.count()


class MonitorEvent(NamedTuple):
    """One event of a socket: ``number`` is one of zmq's EVENT constants, each with its own meaning of ``value``."""

    number: int
    value: int


def new_monitor_address() -> str:
    """An inproc address for one monitor.

    pyzmq's default name contains the socket's descriptor, which the next socket may get while this one still exists.
    """
    return f"inproc://enqueuer-monitor-{next(_address_numbers)}"


def receive_event(monitor: zmq.Socket[bytes], flags: int = 0) -> MonitorEvent:
    """The next event of a monitor. With zmq.NOBLOCK raises zmq.Again if there is none."""
    return MonitorEvent(*_EVENT.unpack(monitor.recv_multipart(flags)[0]))
