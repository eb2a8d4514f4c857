from __future__ import annotations

import itertools
import shlex

import pytest

from enqueuer.engines.own_trainers import TrainerAddresses
from enqueuer.engines.ssh.command import SshLaunch, draw_ports
from enqueuer.engines.ssh.hosts import Host
from enqueuer.errors import ConfigurationError

TRAINER = TrainerAddresses("tcp://127.0.0.1:5555", "tcp://[::1]:41234")
HOST = Host("ann@gpu", "4")
PORTS = (20_001, 20_002)


def option_values(command: list[str], flag: str) -> list[str]:
    return [value for word, value in itertools.pairwise(command) if word == flag]


def test_two_tunnels_lead_from_the_hosts_loopback_to_the_trainers_two_ports() -> None:
    command = SshLaunch(["--allow", "mydata"]).command(HOST, TRAINER, PORTS)
    assert option_values(command, "-R") == ["127.0.0.1:20001:127.0.0.1:5555", "127.0.0.1:20002:[::1]:41234"]
    assert command[0] == "ssh" and command[-3:-1] == ["--", "ann@gpu"]
    assert shlex.split(command[-1]) == [
        *("enqueuer", "worker", "--connect", "tcp://127.0.0.1:20001", "--data-connect", "tcp://127.0.0.1:20002"),
        *("--token-file", "-", "--stdin-timeout", "20", "--processes", "4", "--allow", "mydata"),
    ]


def test_the_users_ssh_options_come_before_the_defaults_and_behind_what_the_tunnels_need() -> None:
    command = SshLaunch(["--allow", "p"], config="conf", options=["BatchMode=no", "Port=2222"]).command(
        HOST, TRAINER, PORTS
    )
    options = option_values(command, "-o")
    assert options.index("ControlMaster=no") < options.index("BatchMode=no") < options.index("BatchMode=yes")
    assert option_values(command, "-F") == ["conf"] and "Port=2222" in options


@pytest.mark.parametrize(
    ("directory", "quoted"),
    [("work/my data", "'work/my data'"), ("~/my data", "~/'my data'"), ("~ann/x", "~ann/x"), ("~;x/y", "'~;x/y'")],
)
def test_the_worker_starts_in_the_directory(directory: str, quoted: str) -> None:
    launch = SshLaunch(["--allow", "p q"], has_token=False, directory=directory, remote_command="venv/bin/enqueuer")
    remote = launch.command(HOST, TRAINER, PORTS)[-1]
    assert remote.startswith(f"cd {quoted} && venv/bin/enqueuer worker --connect ")
    assert "--token-file" not in remote and remote.endswith("--allow 'p q'")


def test_what_launch_decides_itself_is_refused_behind_the_dashes() -> None:
    with pytest.raises(ConfigurationError, match="--stdin-timeout stands behind `--`"):
        SshLaunch(["--allow", "p", "--stdin-timeout=3"])


def test_each_connection_has_two_ports_of_its_own() -> None:
    assert all(control != data for control, data in (draw_ports() for _ in range(100)))
