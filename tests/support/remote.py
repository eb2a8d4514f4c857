"""A remote worker program on this host: ``python -m enqueuer_worker`` as a subprocess, ended by its pid."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

REPOSITORY = Path(__file__).resolve().parents[2]
# Below the ports that the kernel gives to sockets that ask for any.
_PORTS = itertools.count(20_000)


def environment() -> dict[str, str]:
    """This process's environment, in which a child finds the library, the worker program and ``tests``."""
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "workers"), *inherited])}


def free_address() -> str:
    """A loopback address for one session after another: nothing else takes it, not even while nothing listens there.

    The host belongs to this process alone, where the system has more than one loopback host, and each call takes
    another port. A port that the kernel chose could be another program's by the next session.
    """
    host = _own_loopback_host()
    while True:
        with socket.socket() as probe:
            try:
                probe.bind((host, next(_PORTS) if host != "127.0.0.1" else 0))
            except OSError:  # a service that listens on all hosts
                continue
            return f"tcp://{host}:{probe.getsockname()[1]}"


def _own_loopback_host() -> str:
    """An address in 127.0.0.0/8 that is made of this process's id; 127.0.0.1 where the system has no other."""
    pid = os.getpid()
    host = f"127.{1 + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}"
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return "127.0.0.1"
    return host


class RemoteWorker:
    """Starts when made. Its output goes to ``log``, for a test to read and to look at after a failure."""

    def __init__(
        self,
        address: str,
        log: Path,
        processes: int = 2,
        arguments: tuple[str, ...] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        command = [sys.executable, "-m", "enqueuer_worker", "--connect", address, "--allow", "tests"]
        command += ["--processes", str(processes), *arguments]
        self.log = log
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**environment(), **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, timeout: float = 15.0) -> int:
        """Asks it to drain (SIGTERM), kills it after ``timeout`` seconds; returns its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def __enter__(self) -> RemoteWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
