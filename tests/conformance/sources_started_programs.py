"""Sequences whose items start programs; workers import this module."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

SECONDS = 300


def start_program() -> list[int]:
    return [subprocess.Popen(["sleep", str(SECONDS)]).pid]


def start_pipeline() -> list[int]:
    shell = subprocess.Popen(f"sleep {SECONDS} | cat & echo $!; wait", shell=True, stdout=subprocess.PIPE, text=True)
    assert shell.stdout is not None
    return [shell.pid, int(shell.stdout.readline())]


def start_daemon() -> list[int]:
    command = f"setsid sleep {SECONDS} >/dev/null 2>&1 & echo $!"
    return [int(subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout)]


def start_without_environment() -> list[int]:
    return [subprocess.Popen(["/bin/sleep", str(SECONDS)], env={}).pid]


def start_process() -> list[int]:
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(SECONDS,))
    process.start()
    assert process.pid is not None
    return [process.pid]


@dataclass
class Starting:
    """Each batch is the pid of the worker and those of the programs that it started."""

    start: Callable[[], list[int]]

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[int, list[int]]:
        return os.getpid(), self.start()
