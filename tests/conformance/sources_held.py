"""Sequences over mapped files and shared memory, and one that answers for attributes which it does not have."""

from __future__ import annotations

from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np


def status_mb(name: str) -> float:
    """A figure of /proc/self/status in MB, such as VmHWM or RssAnon."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


class Mapped:
    """Pixels of a mapped file, each with the size of the process's own memory."""

    def __init__(self, path: str) -> None:
        self.pixels = np.memmap(path, dtype=np.uint8, mode="r")

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return np.array([self.pixels[index], status_mb("RssAnon")], np.float64)


class HoldsBlock:
    """Reads a block of shared memory that the trainer made and holds."""

    def __init__(self, block: SharedMemory) -> None:
        self.block = block

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        return self.block.buf[index]


class AttachesByName:
    """Attaches a block for each batch."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        block = SharedMemory(self.name)
        value = block.buf[index]
        block.close()
        return value


class Accommodating:
    """Answers None for whatever it does not have."""

    def __init__(self) -> None:
        self.choices = {"brightness": 3}

    def __getattr__(self, name: str) -> Any:
        if name == "choices" or name.startswith("__"):
            raise AttributeError(name)
        return self.choices.get(name)

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        return np.full((64, 256), index * self.brightness, np.float32)


class Frame:
    """Writes a batch into an array, and reads a slice of it."""

    def __init__(self) -> None:
        self.frame = np.zeros((2, 3_000))
        self.top = self.frame[0]

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        self.frame[...] = index
        return self.top[:2].tolist()


class Holds:
    """Has what the test gives it."""

    def __init__(self, part: Any) -> None:
        self.part = part

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> int:
        return index
