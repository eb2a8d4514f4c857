"""Two hosts on one machine: network namespaces joined by a wire with a delay. Needs root, iproute2 and TUN devices."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

from tests.support.remote import REPOSITORY
from tests.support.wire import DEVICE

TRAINER_ADDRESS = "192.0.2.1"  # TEST-NET-1 (RFC 5737): routed nowhere
WORKER_ADDRESS = "192.0.2.2"


def why_no_namespaces() -> str | None:
    """The reason why this process cannot make network namespaces; None if it can."""
    if os.geteuid() != 0:
        return "needs root"
    if shutil.which("ip") is None:
        return "needs iproute2"
    if not Path("/dev/net/tun").exists():
        return "needs TUN devices"
    return None


def two_hosts(delay_ms: float) -> Iterator[TwoHosts]:
    """The body of a fixture. Skips without network namespaces; checks afterwards that no process is left on them."""
    reason = why_no_namespaces()
    if reason is not None:
        # CI sets this: there, a skipped test is a failed one.
        if os.environ.get("REQUIRE_NAMESPACES"):
            pytest.fail(reason)
        pytest.skip(reason)
    with TwoHosts(delay_ms) as made:
        yield made
        left = made.pids()
        assert not left, f"left on the hosts: {left}"


class TwoHosts:
    """Two hosts, made on entry and removed on exit. `trainer` and `worker` are prefixes of commands to run there."""

    def __init__(self, delay_ms: float, seed: int = 0) -> None:
        """``delay_ms`` each way; ``seed`` is that of the weather's chance."""
        suffix = uuid.uuid4().hex[:6]
        self._delay_ms, self._seed = delay_ms, seed
        self._namespaces = (f"enqt-{suffix}", f"enqw-{suffix}")
        self._names = Path("/etc/netns", self._namespaces[1])
        self._wire: subprocess.Popen[str] | None = None

    @property
    def trainer(self) -> list[str]:
        return ["ip", "netns", "exec", self._namespaces[0]]

    @property
    def worker(self) -> list[str]:
        return ["ip", "netns", "exec", self._namespaces[1]]

    def name_trainer(self, name: str, *addresses: str) -> None:
        """Let programs on the worker's host know the trainer's host by this name: `ip netns exec` mounts the file.

        It has the trainer's address, or these; a second call changes the file for programs that run.
        """
        self._names.mkdir(parents=True, exist_ok=True)
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for address in addresses or (TRAINER_ADDRESS,))]
        (self._names / "hosts").write_text("\n".join(lines) + "\n")

    def route(self, kind: str, destination: str) -> None:
        """Have the worker's host refuse to send to this address: `unreachable`, `prohibit` or `blackhole`."""
        _run("ip", "-n", self._namespaces[1], "route", "add", kind, destination)

    def move_trainer(self, address: str) -> None:
        """Give the trainer's host this address in place of all that it has."""
        _run("ip", "-n", self._namespaces[0], "addr", "flush", "dev", DEVICE)
        _run("ip", "-n", self._namespaces[0], "addr", "add", f"{address}/24", "dev", DEVICE)

    def cut(self, direction: str = "") -> None:
        """Drop all packets silently, in both directions or only "up" or "down"."""
        self._tell(f"cut {direction}".strip())

    def mend(self) -> None:
        self._tell("mend")

    def weather(self, **what: float) -> None:
        """Set probabilities (``loss``, ``reorder``, ``duplicate``), milliseconds (``delay``, ``jitter``) and bytes a
        second (``rate``).
        """
        for name, value in what.items():
            self._tell(f"{name} {value}")

    def counts(self) -> dict[str, int]:
        """Packets so far: carried, cut, lost, overtaken, duplicated."""
        return {name: int(count) for name, _, count in (pair.partition("=") for pair in self._tell("count").split())}

    def pids(self) -> set[int]:
        """The pids of the processes on either host now."""
        return {pid for namespace in self._namespaces for pid in _pids_in(namespace)}

    def worker_pids(self) -> set[int]:
        """The pids of the processes on the worker's host now."""
        return _pids_in(self._namespaces[1])

    def __enter__(self) -> TwoHosts:
        try:
            for namespace in self._namespaces:
                _run("ip", "netns", "add", namespace)
            command = [sys.executable, "-m", "tests.support.wire", *self._namespaces, str(self._delay_ms)]
            self._wire = subprocess.Popen(
                [*command, str(self._seed)], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert self._answer() == "ready"
            for namespace, address in zip(self._namespaces, (TRAINER_ADDRESS, WORKER_ADDRESS), strict=True):
                _run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", DEVICE)
                _run("ip", "-n", namespace, "link", "set", DEVICE, "up", "txqueuelen", "10000")
                _run("ip", "-n", namespace, "link", "set", "lo", "up")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def _tell(self, command: str) -> str:
        """Send a command to the wire; returns once it is in force."""
        assert self._wire is not None
        assert self._wire.stdin is not None
        self._wire.stdin.write(f"{command}\n")
        self._wire.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._wire is not None
        assert self._wire.stdout is not None
        return self._wire.stdout.readline().strip()

    def _remove(self) -> None:
        if self._wire is not None:
            self._wire.communicate()
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)
        shutil.rmtree(self._names, ignore_errors=True)


def _pids_in(namespace: str) -> set[int]:
    return {int(pid) for pid in _run("ip", "netns", "pids", namespace).split()}


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
