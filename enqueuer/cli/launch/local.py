"""``enqueuer launch local``: workers on this machine, for a trainer that runs here already."""

from __future__ import annotations

import time

import click

from enqueuer.cli.caller_error import CallerError
from enqueuer.cli.launch.worker_options import LaunchCommand
from enqueuer.errors import ConfigurationError

_LOOK_SECONDS = 0.5


@click.command(cls=LaunchCommand, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--processes",
    default="auto",
    metavar="N|auto",
    help="Worker processes. 'auto': one for each usable CPU.",
)
@click.option(
    "--connect",
    metavar="ADDRESS",
    help="The trainer's address, as in its bind=…  [default: that of the one trainer that you run on this machine]",
)
@click.pass_context
def local(context: click.Context, processes: str, connect: str | None, worker_options: list[str]) -> None:
    """Start more workers on this machine, for a trainer that runs on it.

    This is `enqueuer worker --connect ADDRESS` with the address of your trainer, which it waits for. Logs, Ctrl-C and
    exit codes are those of `enqueuer worker`.

    \b
    Example:
      enqueuer launch local --processes 2 -- --token-file keys/worker.token --allow mydata
    """
    from enqueuer.engines.worker_command import worker_command

    try:
        worker_command({"--connect": connect, "--processes": processes}, worker_options)  # before a long wait
        address = connect or _find_trainer()
        arguments = worker_command({"--connect": address, "--processes": processes}, worker_options)
    except ConfigurationError as error:
        raise CallerError(str(error)) from error
    except OSError as error:
        raise click.ClickException(str(error)) from error
    # By name, from the group of all commands: the library does not import the worker program.
    root = context.find_root()
    assert isinstance(root.command, click.Group)
    worker = root.command.get_command(root, arguments[0])
    assert worker is not None
    with worker.make_context(arguments[0], arguments[1:], parent=root) as its_own:
        worker.invoke(its_own)


def _find_trainer() -> str:
    """The address of the one trainer of this user, once there is one."""
    from enqueuer.engines.own_trainers import choose, find_trainers

    told = False
    while (trainer := choose(find_trainers(), None)) is None:
        if not told:
            click.echo("no trainer of yours with bind=… runs on this machine: waiting for one", err=True)
            told = True
        time.sleep(_LOOK_SECONDS)
    return trainer.control
