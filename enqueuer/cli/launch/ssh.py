"""``enqueuer launch ssh``: workers on other hosts, by OpenSSH."""

from __future__ import annotations

import asyncio
import shlex
import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from enqueuer import __version__
from enqueuer.cli.caller_error import CallerError
from enqueuer.cli.launch.trainer_address import check_address
from enqueuer.cli.launch.worker_options import LaunchCommand, check_worker_options
from enqueuer.cli.option_names import in_option_names
from enqueuer.errors import ConfigurationError

if TYPE_CHECKING:
    from enqueuer.engines.own_trainers import TrainerAddresses
    from enqueuer.engines.ssh.command import SshLaunch
    from enqueuer.engines.ssh.hosts import Host

_UNPROTECTED = (
    "without a token, every user of these hosts could connect to the trainer through the tunnels, and feed it. Make "
    "keys with `enqueuer keygen DIR`, and give the trainer key_file='DIR/coordinator.key' and this command "
    "--token-file DIR/worker.token; or give --insecure if these hosts are yours alone"
)


@click.command(
    cls=LaunchCommand,
    own=("--name", "--interface", "--stdin-timeout", "--requeue-exit-code"),
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.argument("hosts", nargs=-1, required=True, metavar="HOST[:PROCESSES]...")
@click.option(
    "--processes",
    envvar="ENQUEUER_PROCESSES",
    show_envvar=True,
    default="auto",
    metavar="N|auto",
    help="Worker processes on each host that names no number of its own. 'auto': one for each usable CPU there. "
    "The number stays, whatever the training wants: `enqueuer status` says how many would keep up.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="The worker.token that `enqueuer keygen` made beside the trainer's key. It goes to the hosts over SSH and is "
    "written nowhere there.  [env var: ENQUEUER_TOKEN_FILE or ENQUEUER_TOKEN]",
)
@click.option(
    "--insecure",
    envvar="ENQUEUER_INSECURE",
    show_envvar=True,
    is_flag=True,
    help="Does without a token. Every user of these hosts can then connect to the trainer, and feed it.",
)
@click.option("--directory", metavar="DIR", help="Where the workers start on the hosts.  [default: the home directory]")
@click.option(
    "--remote-command",
    default="enqueuer",
    metavar="COMMAND",
    help="How a shell on the hosts starts `enqueuer`, in that directory: venv/bin/enqueuer, for example.",
)
@click.option("-F", "config", metavar="FILE", help="Another configuration file for ssh, in place of ~/.ssh/config.")
@click.option(
    "-o", "options", multiple=True, metavar="OPTION=VALUE", help="An option for ssh. Can be given repeatedly."
)
@click.option(
    "--connect",
    envvar="ENQUEUER_CONNECT",
    show_envvar=True,
    metavar="ADDRESS",
    help="The trainer's address, as in its bind=…  [default: that of the one trainer that you run on this machine]",
)
@click.option(
    "--data-connect",
    envvar="ENQUEUER_DATA_CONNECT",
    show_envvar=True,
    metavar="ADDRESS",
    help="The trainer's second address, as in its data_bind=…. With it no trainer is looked for.",
)
@click.option("--dry-run", is_flag=True, help="Print the ssh commands, and start nothing.")
@click.pass_context
def ssh(
    context: click.Context,
    hosts: tuple[str, ...],
    processes: str,
    token_file: str | None,
    insecure: bool,
    directory: str | None,
    remote_command: str,
    config: str | None,
    options: tuple[str, ...],
    connect: str | None,
    data_connect: str | None,
    dry_run: bool,
    worker_options: list[str],
) -> None:
    """Start workers on other hosts by SSH, for a trainer on this machine.

    Each host gets one connection of the OpenSSH client, with tunnels to both ports of the trainer, which may listen on
    127.0.0.1 alone. `ssh HOST` must work without a question, and enqueuer must be installed there. The first Ctrl-C
    drains all hosts, a second one ends them at once. A connection that breaks is opened again. If this command or this
    machine vanishes, the workers end by themselves.

    Exit codes: 0 when all workers have drained, 1 when a host was given up or could not drain, 2 for invalid options,
    128 + the signal's number after a second signal.

    \b
    Example:
      enqueuer launch ssh gpu-1:8 gpu-2 --token-file keys/worker.token \\
          --directory project --remote-command venv/bin/enqueuer -- --allow mydata
    """
    from enqueuer.engines.ssh.command import SshLaunch, draw_ports
    from enqueuer.engines.ssh.hosts import parse_hosts
    from enqueuer.security.curve import find_token

    try:
        parsed = parse_hosts(hosts, processes)
        token = find_token(token_file)
        if token is None and not insecure:
            raise ConfigurationError(_UNPROTECTED)
        launch = SshLaunch(worker_options, token is not None, directory or "", remote_command, config, options)
        check_worker_options({}, worker_options)
        find = _finder(connect, data_connect)
        trainer = find()
    except ConfigurationError as error:
        raise CallerError(in_option_names(str(error), context.command)) from error
    except OSError as error:
        raise click.ClickException(str(error)) from error
    if dry_run:
        if trainer is None:
            raise CallerError(f"{_waited_for(connect)}: start it, or give --connect and --data-connect")
        for host in parsed:
            click.echo(shlex.join(launch.command(host, trainer, draw_ports())))
        return
    if shutil.which("ssh") is None:
        raise click.ClickException("there is no `ssh` on this machine: install the OpenSSH client")
    if trainer is None:
        click.echo(f"{_waited_for(connect)}: waiting for it", err=True)
    context.exit(_serve(parsed, launch, find, "" if token is None else token.to_text()))


def _serve(hosts: Sequence[Host], launch: SshLaunch, find: Callable[[], TrainerAddresses | None], token: str) -> int:
    """Have workers on the hosts until all have ended, with their output here; returns the exit code."""
    from enqueuer.engines.ssh.fleet import SshFleet

    width = max(len(host.name) for host in hosts)

    def say(host: str, line: str) -> None:
        click.echo(f"{host or 'launch':{width}} | {line}", err=True)

    def look() -> TrainerAddresses | None:
        try:
            return find()
        except (ConfigurationError, OSError):
            return None  # others have started beside it

    return asyncio.run(SshFleet(hosts, launch, look, say, token=token, version=__version__).run())


def _finder(connect: str | None, data_connect: str | None) -> Callable[[], TrainerAddresses | None]:
    """What finds the trainer's addresses; a call raises ConfigurationError if several could be meant, or OSError."""
    from enqueuer.engines.own_trainers import TrainerAddresses, choose, find_trainers, reachable

    for name, address in (("connect", connect), ("data_connect", data_connect)):
        if address is not None:
            check_address(name, address)
    if data_connect is None:
        return lambda: choose(find_trainers(), connect)
    if connect is None:
        raise ConfigurationError("data_connect needs connect='tcp://host:port' as well")
    addresses = TrainerAddresses(reachable(connect), reachable(data_connect))
    return lambda: addresses


def _waited_for(connect: str | None) -> str:
    return f"no trainer of yours {f'at {connect}' if connect else 'with bind=…'} runs on this machine"
