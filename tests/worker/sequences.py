"""Sequences for worker processes to build by name in these tests."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np


class Numbers:
    """``(index, its squares)``; ``size`` numbers of them."""

    def __init__(self, length: int = 1000, size: int = 4) -> None:
        self.length = length
        self.size = size

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return index, np.full(self.size, index * index)


class Moody(Numbers):
    """``moods`` maps an index, as decimal text, to the deed of its item."""

    def __init__(self, moods: dict[str, str], note: str = "") -> None:
        super().__init__()
        self.moods = moods
        self.note = note

    def __getitem__(self, index: int) -> Any:
        mood = self.moods.get(str(index), "")
        if mood == "raise":
            raise ValueError(f"no item {index}")
        if mood == "exit":
            sys.exit(5)
        if mood == "interrupt":
            raise KeyboardInterrupt
        if mood == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if mood == "vanish":
            os._exit(9)
        if mood == "talk":
            print("printed")
            print("complained", file=sys.stderr)
            logging.getLogger("user.code").error("logged")
            warnings.warn("warned", stacklevel=1)
        if mood.startswith("wait for "):
            while not Path(mood.removeprefix("wait for ")).exists():
                time.sleep(0.01)
        if mood == "hang":
            hang_for_ever()
        if mood == "hold the GIL":
            hold_the_gil_for_ever()
        if mood == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if mood == "be deaf":
            signal.signal(signal.SIGUSR2, lambda *_: None)
            hang_for_ever()
        if mood == "die of the question":
            signal.signal(signal.SIGUSR2, signal.SIG_DFL)
            hang_for_ever()
        if mood == "wake up when asked":
            wake_up_when_asked()
        if mood == "recurse":
            recurse(500)
        if mood.startswith("sleep "):
            time.sleep(float(mood.removeprefix("sleep ")))
        if mood == "unsendable":
            return object()
        if mood == "stdin":
            return sys.stdin.read()
        if mood == "terminate":
            return end_by_sigterm()
        return super().__getitem__(index)

    def close(self) -> None:
        if self.note:
            Path(self.note).write_text("closed")


def hang_for_ever() -> None:
    while True:
        time.sleep(60)


def hold_the_gil_for_ever() -> None:
    libc = ctypes.PyDLL(None)
    while True:  # a signal ends the sleep
        libc.sleep(60)


def wake_up_when_asked() -> None:
    asked: list[int] = []
    signal.signal(signal.SIGUSR2, lambda number, _: asked.append(number))
    while not asked:
        time.sleep(0.01)


def recurse(depth: int) -> None:
    if depth:
        recurse(depth - 1)
    hang_for_ever()


def end_by_sigterm() -> list[int]:
    """Terminate a program and a forked child of user code; returns the signals that ended them."""
    program = subprocess.Popen(["sleep", "30"])
    program.terminate()
    ready, tell = os.pipe()
    forked = os.fork()
    if forked == 0:
        os.write(tell, b"!")
        time.sleep(30)
        os._exit(0)
    os.read(ready, 1)
    os.kill(forked, signal.SIGTERM)
    return [-program.wait(), os.WTERMSIG(os.waitpid(forked, 0)[1])]


def broken() -> Any:
    """A target whose Sequence cannot be built."""
    raise OSError("the dataset is not here")
