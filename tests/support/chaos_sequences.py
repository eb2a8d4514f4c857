"""Sequences for the chaos tests, importable, so that a remote worker builds its own from a `SequenceSpec`.

Every batch is ``(index, pid, tag, content)``. The content follows from index and tag alone, so a consumer can check
the batch without knowing its epoch. The pid is that of the worker; it is a float, since a host whose batches differ in
integers is turned away.
"""

from __future__ import annotations

import ctypes
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.support.journal import Journal

_CONTENT_ITEMS = 1000
_LARGE_BYTES = 1 << 40
# Bounds the damage of a broken test; no test waits for it.
FOR_EVER_SECONDS = 90.0


def content_of(index: int, tag: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.arange(_CONTENT_ITEMS, dtype=np.int64) * 1_000_003 + index * 7919 + tag


@dataclass
class Steady:
    """Each batch takes ``seconds``. ``tag`` tells two Sequences, or two passes of one, apart."""

    length: int = 200
    seconds: float = 0.02
    tag: int = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[int, float, int, Any]:
        time.sleep(self.seconds)
        return self.batch(index)

    def batch(self, index: int) -> tuple[int, float, int, Any]:
        return index, float(os.getpid()), self.tag, content_of(index, self.tag)


@dataclass
class Faulty(Steady):
    """Index ``bad`` runs ``FAULTS[fault]`` the first ``times`` times that it is computed.

    ``journal`` is a file with the pid of each of these attempts.
    """

    fault: str = "exit 11"
    bad: int = 17
    times: int = 1
    journal: str = ""

    def __getitem__(self, index: int) -> tuple[int, float, int, Any]:
        if index == self.bad:
            journal = Journal(self.journal)
            journal.note("item", index)
            if len(journal.requested()) <= self.times:
                FAULTS[self.fault]()
        return super().__getitem__(index)


@dataclass
class Stored(Steady):
    """Keeps ``nbytes`` of data, which travels to local workers in shared memory; its batches are small."""

    nbytes: int = 8 << 20

    def __post_init__(self) -> None:
        self.data = np.zeros(self.nbytes, np.uint8)

    def batch(self, index: int) -> tuple[int, float, int, Any]:
        return index, float(os.getpid()), self.tag, content_of(index, self.tag) + int(self.data[index])


def segfault() -> None:
    ctypes.string_at(0)


def sleep_for_ever() -> None:
    time.sleep(FOR_EVER_SECONDS)


def hold_the_gil_for_4_seconds() -> None:
    """Sleep with the GIL held, as functions of a PyDLL are called, so that no other thread of the process runs."""
    ctypes.PyDLL(None).usleep(4_000_000)


def hold_the_gil_for_ever() -> None:
    ctypes.PyDLL(None).sleep(int(FOR_EVER_SECONDS))


def eat_memory() -> None:
    """Take memory until the kernel ends the process: pages count when they are written to."""
    hoard = []
    for _ in range(4096):
        hoard.append(np.ones(1 << 20, np.uint8))


def exceed_the_address_space() -> None:
    """Ask for more memory than the process's own limit allows, which Python reports as a MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_LARGE_BYTES, hard))
    try:
        np.ones(_LARGE_BYTES, np.uint8)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


FAULTS: dict[str, Callable[[], None]] = {
    "segfault": segfault,
    "exit 0": lambda: os._exit(0),
    "exit 3": lambda: os._exit(3),
    "exit 4": lambda: os._exit(4),
    "exit 11": lambda: os._exit(11),
    "sleep": sleep_for_ever,
    "hold the GIL for 4 s": hold_the_gil_for_4_seconds,
    "hold the GIL": hold_the_gil_for_ever,
    "eat memory": eat_memory,
    "exceed the address space": exceed_the_address_space,
}
