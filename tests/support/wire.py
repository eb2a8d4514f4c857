"""A wire with a delay between two network namespaces: `python -m tests.support.wire NAMESPACE NAMESPACE DELAY_MS`.

Each namespace gets a TUN device; this program carries packets from one to the other after the delay. It needs no
scheduler in the kernel (netem is a module that not every kernel has). Commands on stdin: ``cut`` (packets vanish, in
both directions, and nobody is told) and ``mend``; the wire ends with its stdin.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque
from pathlib import Path

DEVICE = "wire0"
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_PACKET_BYTES = 65536


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


def carry(first: int, second: int, delay: float) -> None:
    """Until stdin ends."""
    other = {first: second, second: first}
    # One delay for all, so packets fall due in the order in which they came.
    underway: deque[tuple[float, int, bytes]] = deque()
    cut = False
    while True:
        timeout = max(0.0, underway[0][0] - time.monotonic()) if underway else None
        readable, _, _ = select.select([sys.stdin, first, second], [], [], timeout)
        for fd in readable:
            if fd is sys.stdin:
                command = sys.stdin.readline()
                if not command:
                    return
                cut = command == "cut\n"
                continue
            while packet := _read(fd):
                if not cut:
                    underway.append((time.monotonic() + delay, other[fd], packet))
        while underway and underway[0][0] <= time.monotonic():
            _, target, packet = underway.popleft()
            _write(target, packet)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _PACKET_BYTES)
    except BlockingIOError:
        return b""


def _write(fd: int, packet: bytes) -> None:
    # Not up yet, or its queue is full: a wire loses what it cannot carry.
    with contextlib.suppress(OSError):
        os.write(fd, packet)


def main() -> None:
    first, second, delay_ms = sys.argv[1:]
    devices = open_tun(first), open_tun(second)
    print("ready", flush=True)
    carry(*devices, float(delay_ms) / 1000)


if __name__ == "__main__":
    main()
