"""A wire between two network namespaces: `python -m tests.support.wire NAMESPACE NAMESPACE DELAY_MS [SEED]`.

Each namespace gets a TUN device; this program carries packets between them with the faults of `weather`. It needs no
scheduler in the kernel (netem is a module that not every kernel has). Commands on stdin are those of the weather, and
each is answered with a line; the wire ends with its stdin.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import select
import struct
import sys
import time
from pathlib import Path

from tests.support.weather import DOWN, UP, Weather

DEVICE = "wire0"
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_PACKET_BYTES = 65536
_STDIN = 0
# How much is taken from one device before the other, the clock and stdin have their turn.
_PACKETS_PER_TURN = 100


def open_tun(namespace: str) -> int:
    """A TUN device inside the namespace; the descriptor works from anywhere."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/self/ns/net").open("rb") as home, Path("/run/netns", namespace).open("rb") as there:
        _enter(libc, there.fileno())
        try:
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
        finally:
            _enter(libc, home.fileno())
    return fd


def _enter(libc: ctypes.CDLL, fd: int) -> None:
    if libc.setns(fd, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Wire:
    """Two devices and the packets underway between them."""

    def __init__(self, first: int, second: int, weather: Weather) -> None:
        self._weather = weather
        # Where a packet that is read there goes, and in which direction that is.
        self._routes = {first: (second, DOWN), second: (first, UP)}
        # When it is due, a number that keeps those that are due together in order, where to, what.
        self._underway: list[tuple[float, int, int, bytes]] = []
        self._number = 0

    def carry(self) -> None:
        """Carry packets until stdin ends."""
        while True:
            timeout = max(0.0, self._underway[0][0] - time.monotonic()) if self._underway else None
            readable, _, _ = select.select([_STDIN, *self._routes], [], [], timeout)
            if _STDIN in readable and not self._obey():
                return
            for fd in readable:
                if fd in self._routes:
                    self._take(fd)
            self._deliver()

    def _obey(self) -> bool:
        """Execute a command from stdin; False at its end. The sender awaits each answer, so a read is one line."""
        line = os.read(_STDIN, 4096).decode()
        if line:
            print(self._weather.command(line) or "done", flush=True)
        return bool(line)

    def _take(self, fd: int) -> None:
        target, direction = self._routes[fd]
        for _ in range(_PACKETS_PER_TURN):
            packet = _read(fd)
            if not packet:
                return
            for due in self._weather.arrivals(direction, time.monotonic(), len(packet)):
                self._number += 1
                heapq.heappush(self._underway, (due, self._number, target, packet))

    def _deliver(self) -> None:
        while self._underway and self._underway[0][0] <= time.monotonic():
            _, _, target, packet = heapq.heappop(self._underway)
            # Not up yet, or its queue is full: a wire loses what it cannot carry.
            with contextlib.suppress(OSError):
                os.write(target, packet)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _PACKET_BYTES)
    except BlockingIOError:
        return b""


def main() -> None:
    first, second, delay_ms, *seed = sys.argv[1:]
    devices = open_tun(first), open_tun(second)
    print("ready", flush=True)
    Wire(*devices, Weather(float(delay_ms) / 1000, *map(int, seed))).carry()


if __name__ == "__main__":
    main()
