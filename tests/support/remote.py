"""A remote worker program on this host: ``python -m enqueuer_worker`` as a subprocess, ended by its pid."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

REPOSITORY = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """This process's environment, in which a child finds the library, the worker program and ``tests``."""
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "workers"), *inherited])}


def free_address() -> str:
    """A loopback address that nobody listened on a moment ago; the same one serves successive sessions."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


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
