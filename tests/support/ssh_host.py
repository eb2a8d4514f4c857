"""A real SSH server on one of two hosts, a key agent for the other one, and the client's configuration for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType

import pytest

from tests.support.namespaces import WORKER_ADDRESS, TwoHosts
from tests.support.waiting import wait_until

_SSHD = "/usr/sbin/sshd"


def skip_without_ssh() -> None:
    """Skip the test where there is no SSH server; fail it there with REQUIRE_SSH, which CI sets."""
    missing = [name for name in ("ssh", "ssh-agent", "ssh-add", "ssh-keygen", _SSHD) if shutil.which(name) is None]
    if missing and os.environ.get("REQUIRE_SSH"):
        pytest.fail(f"no {missing}")
    if missing:
        pytest.skip(f"needs Debian's openssh-client and openssh-server: no {missing}")


class SshHost:
    """Runs on the worker's host from entry to exit.

    In `config`, the server is `far`; `unknown` and `changed` are the same with no known key and with another one,
    `refused` with a key that the server does not accept, and `silent` is a port where nothing listens.
    """

    def __init__(self, hosts: TwoHosts, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.config = directory / "config"
        self.log = directory / "sshd.log"
        self._hosts = hosts
        self._agent_socket = directory / "agent"
        self._programs: list[subprocess.Popen[bytes]] = []

    @property
    def variables(self) -> dict[str, str]:
        """The variable that leads to the agent."""
        return {"SSH_AUTH_SOCK": str(self._agent_socket)}

    def sessions(self) -> set[int]:
        """The pids of the server's processes that serve a client each."""
        return {pid for pid in self._hosts.worker_pids() if command_of(pid).startswith("sshd: root")}

    def started(self) -> set[int]:
        """The pids of the programs that clients have started there."""
        return {pid for pid in self._hosts.worker_pids() if "sshd" not in command_of(pid)}

    def __enter__(self) -> SshHost:
        try:
            self._start_agent()
            self._start_server()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _start_agent(self) -> None:
        accepted = self._new_key("accepted")
        self._start(["ssh-agent", "-D", "-a", str(self._agent_socket)], self.directory / "agent.log")
        wait_until(self._agent_socket.exists, what="the agent's socket")
        subprocess.run(["ssh-add", "-q", str(accepted)], env={**os.environ, **self.variables}, check=True)
        accepted.unlink()  # the agent alone has it

    def _start_server(self) -> None:
        host_key, other = self._new_key("host"), self._new_key("other")
        for name, key in (("known", host_key), ("changed", other)):
            public = key.with_suffix(".pub").read_text()
            self._write(f"{name}_hosts", f"{WORKER_ADDRESS} {public}")
        self._write("no_hosts", "")
        self.config.write_text(
            f"""\
Host far
  UserKnownHostsFile {self.directory}/known_hosts
Host unknown
  UserKnownHostsFile {self.directory}/no_hosts
Host changed
  UserKnownHostsFile {self.directory}/changed_hosts
Host refused
  UserKnownHostsFile {self.directory}/known_hosts
  IdentityAgent none
  IdentityFile {other}
Host silent
  Port 23
Host *
  HostName {WORKER_ADDRESS}
  User root
  GlobalKnownHostsFile none
  IdentityFile none
"""
        )
        # Where the server is installed and was never started by the system, the directory is not there.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        server = self._write(
            "sshd_config",
            f"""\
HostKey {host_key}
AuthorizedKeysFile {self.directory}/accepted.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
PidFile none
""",
        )
        self._start([*self._hosts.worker, _SSHD, "-D", "-e", "-f", str(server)], self.log)
        wait_until(lambda: "Server listening on" in self.log.read_text(), what=f"the server, see {self.log}")

    def _start(self, command: list[str], log: Path) -> None:
        with log.open("wb") as sink:
            self._programs.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=self.directory)
            )

    def _new_key(self, name: str) -> Path:
        path = self.directory / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        return path

    def _write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def _end(self) -> None:
        for program in self._programs:
            program.terminate()
            program.wait(30)
        # A session goes on until TCP gives its client up, if that has vanished behind a cut wire.
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.sessions(), what="the end of the server's sessions")


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""  # it has ended
