"""The command line of the OpenSSH client that runs `enqueuer worker` on a host, with two tunnels to the trainer.

     this machine                                     HOST
    ┌───────────────────────────┐                    ┌──────────────────────────────────┐
    │ trainer, on loopback      │     ssh -R -R      │ enqueuer worker                  │
    │   control port ◄──────────┼────────────────────┼── --connect tcp://127.0.0.1:P    │
    │   data port    ◄──────────┼────────────────────┼── --data-connect …:Q             │
    │ launcher: token, "drain" ─┼────────────────────┼─► standard input                 │
    └───────────────────────────┘                    └──────────────────────────────────┘

P and Q are drawn anew for each connection. A server keeps a vanished client's ports until TCP gives the connection up,
perhaps for hours.
"""

from __future__ import annotations

import random
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from enqueuer.engines.own_trainers import TrainerAddresses
from enqueuer.engines.ssh.hosts import Host
from enqueuer.engines.worker_command import worker_command

# A worker ends after this long without a line from here.
STDIN_TIMEOUT_SECONDS = 20
# Unprivileged ports below the range from which Linux gives a socket any free one.
_PORTS = range(10_000, 32_768)
_HOME = re.compile(r"~[\w-]*(/|$)", re.ASCII)
# The tunnels are this client's own, and end with it: a shared connection would keep them. The host gets neither the
# agent nor the display of this user.
_REQUIRED = ("ControlMaster=no", "ControlPath=none", "ExitOnForwardFailure=yes", "RemoteCommand=none")
# Defaults that the user's -o may change. There is no terminal for questions, and errors are to be seen.
_DEFAULTS = (
    *("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3"),
    *("LogLevel=INFO", "TCPKeepAlive=yes"),
)


@dataclass(frozen=True, slots=True)
class SshLaunch:
    """The part of the command common to all hosts. Raises ConfigurationError for wrong ``worker_options``.

    ``worker_options`` stand behind ``--``. Workers start in ``directory``, and ``remote_command`` starts ``enqueuer``
    in a shell there. ``config`` and ``options`` are -F and -o of ssh.
    """

    worker_options: Sequence[str] = ()
    has_token: bool = True
    directory: str = ""
    remote_command: str = "enqueuer"
    config: str | None = None
    options: Sequence[str] = ()

    def __post_init__(self) -> None:
        self._remote(Host("", ""), 0, 0)

    def command(self, host: Host, trainer: TrainerAddresses, ports: tuple[int, int]) -> list[str]:
        """Return the command for a host, with the tunnels' two ports there.

        Its first line of standard input is the token, if there is one. Each further line is a sign of life, or 'drain'.
        """
        control, data = ports
        # OpenSSH takes the first value of each option.
        options = [*_REQUIRED, *self.options, *_DEFAULTS]
        return [
            *("ssh", "-T", "-a", "-x"),
            *(() if self.config is None else ("-F", self.config)),
            *(word for option in options for word in ("-o", option)),
            *("-R", _tunnel(control, trainer.control), "-R", _tunnel(data, trainer.data)),
            *("--", host.name, self._remote(host, control, data)),
        ]

    def _remote(self, host: Host, control: int, data: int) -> str:
        own = {
            "--connect": f"tcp://127.0.0.1:{control}",
            "--data-connect": f"tcp://127.0.0.1:{data}",
            "--token-file": "-" if self.has_token else None,
            "--stdin-timeout": STDIN_TIMEOUT_SECONDS,
            "--processes": host.processes,
        }
        command = f"{self.remote_command} {shlex.join(worker_command(own, self.worker_options))}"
        return f"cd {_quote_path(self.directory)} && {command}" if self.directory else command


def draw_ports() -> tuple[int, int]:
    """Two different ports, free on most hosts."""
    control, data = random.sample(_PORTS, 2)
    return control, data


def _tunnel(port: int, address: str) -> str:
    return f"127.0.0.1:{port}:{address.removeprefix('tcp://')}"


def _quote_path(path: str) -> str:
    """The path quoted for a shell, but for a home directory at its head."""
    found = _HOME.match(path)
    home = "" if found is None else found[0]
    rest = path[len(home) :]
    return home + (shlex.quote(rest) if rest else "")
