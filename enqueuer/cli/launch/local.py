"""``enqueuer launch local``: workers on this machine, for a trainer that runs here already."""

from __future__ import annotations

import shlex
import time

import click

from enqueuer.cli.caller_error import CallerError
from enqueuer.cli.launch.trainer_address import check_address
from enqueuer.cli.launch.worker_options import LaunchCommand, check_worker_options, worker_context
from enqueuer.cli.option_names import in_option_names
from enqueuer.errors import ConfigurationError

_LOOK_SECONDS = 0.5
_NO_TRAINER = "no trainer of yours with bind=… runs on this machine"


@click.command(cls=LaunchCommand, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--processes",
    envvar="ENQUEUER_PROCESSES",
    show_envvar=True,
    default="auto",
    metavar="N|auto",
    help="Worker processes. 'auto': one for each usable CPU.",
)
@click.option(
    "--connect",
    envvar="ENQUEUER_CONNECT",
    show_envvar=True,
    metavar="ADDRESS",
    help="The trainer's address, as in its bind=…  [default: that of the one trainer that you run on this machine]",
)
@click.option("--dry-run", is_flag=True, help="Print the `enqueuer worker` command, and start nothing.")
def local(processes: str, connect: str | None, dry_run: bool, worker_options: list[str]) -> None:
    """Start more workers on this machine, for a trainer that runs on it.

    This is `enqueuer worker --connect ADDRESS` with the address of your trainer, which it waits for. Logs, Ctrl-C and
    exit codes are those of `enqueuer worker`.

    \b
    Example:
      enqueuer launch local --processes 2 -- --token-file keys/worker.token --allow mydata
    """
    from enqueuer.engines.worker_command import worker_command

    def own(address: str | None) -> dict[str, object]:
        return {"--connect": address, "--processes": processes}

    try:
        if connect is not None:
            check_address("connect", connect)
        check_worker_options(own(connect), worker_options)  # before a long wait
        address = connect or _find_trainer(wait=not dry_run)
    except ConfigurationError as error:
        raise CallerError(in_option_names(str(error), local)) from error
    except OSError as error:
        raise click.ClickException(str(error)) from error
    if dry_run:
        click.echo(shlex.join(["enqueuer", *worker_command(own(address), worker_options)]))
        return
    with worker_context(own(address), worker_options) as worker:
        worker.command.invoke(worker)


def _find_trainer(wait: bool) -> str:
    """The address of the one trainer of this user, once there is one. Raises ConfigurationError without ``wait``."""
    from enqueuer.engines.own_trainers import choose, find_trainers

    told = False
    while (trainer := choose(find_trainers(), None)) is None:
        if not wait:
            raise ConfigurationError(f"{_NO_TRAINER}: start it, or give --connect")
        if not told:
            click.echo(f"{_NO_TRAINER}: waiting for one", err=True)
            told = True
        time.sleep(_LOOK_SECONDS)
    return trainer.control
