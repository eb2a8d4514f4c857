"""Captures the loopback interface with `tshark`. Needs root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType

import pytest

from tests.support.waiting import settled, wait_until


def skip_unless_possible() -> None:
    """Skip where nothing can be captured; fail there if CI requires it (REQUIRE_CAPTURE)."""
    reason = None
    if os.geteuid() != 0:
        reason = "needs root"
    elif shutil.which("tshark") is None:
        reason = "needs tshark"
    if reason is not None:
        if os.environ.get("REQUIRE_CAPTURE"):
            pytest.fail(reason)
        pytest.skip(reason)


class Capture:
    """Captures all packets to and from these addresses while entered; read it afterwards."""

    def __init__(self, file: Path, *addresses: str) -> None:
        self._file = file
        hosts_and_ports = [address.removeprefix("tcp://").rpartition(":") for address in addresses]
        # Tests that run at the same time have the same ports, each at a host of its own.
        self._filter = " or ".join(f"(host {host} and tcp port {port})" for host, _, port in hosts_and_ports)
        self._process: subprocess.Popen[bytes] | None = None

    def payload_bytes(self) -> int:
        """The number of bytes carried."""
        return sum(map(int, self._ask("tcp.len > 0", "tcp.len")))

    def packets_with(self, text: str) -> int:
        """The number of packets that contain this text."""
        return len(self._ask(f'tcp.payload contains "{text}"', "frame.number"))

    def _ask(self, display_filter: str, field: str) -> list[str]:
        command = ["tshark", "-r", str(self._file), "-Y", display_filter, "-T", "fields", "-e", field]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.split()

    def __enter__(self) -> Capture:
        command = ["tshark", "-q", "-i", "lo", "-B", "64", "-f", self._filter, "-w", str(self._file)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

        def is_capturing() -> bool:
            assert self._process is not None and self._process.stderr is not None
            assert self._process.poll() is None, self._process.stderr.read()
            return self._file.exists() and self._file.stat().st_size > 0

        wait_until(is_capturing, 30.0, "that the capture has begun")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process is not None
        # What it has not written yet when it is told to end is lost.
        settled(lambda: self._file.stat().st_size, 1.5, 30.0)
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=30)
