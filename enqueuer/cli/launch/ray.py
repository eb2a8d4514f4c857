"""``enqueuer launch ray``: workers on a Ray cluster, for a trainer elsewhere."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from enqueuer.cli.caller_error import CallerError
from enqueuer.cli.launch.trainer_address import check_address
from enqueuer.cli.launch.worker_options import LaunchCommand, spelled_out, worker_context
from enqueuer.cli.option_names import in_option_names
from enqueuer.errors import ConfigurationError
from enqueuer.transport.addresses import is_loopback

if TYPE_CHECKING:
    from enqueuer.engines.ray.fixed_fleet import FixedFleet

# The worker's flags that this command sets, or whose use would have each worker replaced once it has left.
_OWN = ("--processes", "--name", "--token-file", "--insecure", "--stdin-timeout", "--once")


@click.command(
    cls=LaunchCommand,
    own=_OWN,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.option(
    "--connect",
    envvar="ENQUEUER_CONNECT",
    show_envvar=True,
    required=True,
    metavar="ADDRESS",
    help="The trainer's address: tcp://host:port, as the nodes of the cluster reach it.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="How many workers there are: the number stays. A cluster that scales itself adds nodes for those without a "
    "place. RayFleet in the training script has as many as keep up with the training.",
)
@click.option(
    "--cpus-per-worker",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    metavar="N",
    help="The CPUs that Ray sets aside for each worker, and its threads.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="The worker.token that `enqueuer keygen` made beside the trainer's key. Ray carries it to the workers, so all "
    "programs on the cluster can read it.  [env var: ENQUEUER_TOKEN_FILE or ENQUEUER_TOKEN]",
)
@click.option(
    "--insecure",
    envvar="ENQUEUER_INSECURE",
    show_envvar=True,
    is_flag=True,
    help="Does without a token. Any program that answers at the address, or listens on the way, reads the batches and "
    "chooses what is called on the nodes, within what stands behind `--`.",
)
@click.option(
    "--address",
    default="auto",
    metavar="ADDRESS",
    help="The Ray cluster. 'auto': the one of this machine.",
)
@click.option(
    "--working-dir",
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    help="A directory that Ray copies to each node, where the workers find your modules.  [default: none; they are "
    "found in the current directory, if the nodes have it too]",
)
@click.option("--dry-run", is_flag=True, help="Print what would be started, and start nothing. It asks no cluster.")
@click.pass_context
def ray(
    context: click.Context,
    connect: str,
    workers: int,
    cpus_per_worker: float,
    token_file: str | None,
    insecure: bool,
    address: str,
    working_dir: str | None,
    dry_run: bool,
    worker_options: list[str],
) -> None:
    """Start workers on a Ray cluster, for a trainer elsewhere.

    Run it on a node of the cluster, or by `ray job submit`. Each worker is an actor, which Ray places, and starts again
    elsewhere when its node dies. enqueuer must be installed on the nodes. The first Ctrl-C drains all workers, a second
    one ends them at once. If this command vanishes, Ray ends them.

    Exit codes: 0 when all workers have drained, 1 when the cluster is gone, 2 for invalid options, 128 + the signal's
    number after a second signal.

    \b
    Example:
      enqueuer launch ray --workers 8 --connect tcp://trainer:5555 \\
          --token-file keys/worker.token -- --allow mydata
    """
    from enqueuer.engines.ray.actors import import_ray
    from enqueuer.engines.ray.fixed_fleet import FixedFleet

    try:
        check_address("connect", connect)
        arguments = _arguments(connect, cpus_per_worker, worker_options)
        token = _find_token(connect, token_file, insecure=insecure)
        arguments["insecure"] = not token
        library = None if dry_run else import_ray()
    except (ConfigurationError, ModuleNotFoundError) as error:
        raise CallerError(in_option_names(str(error), context.command)) from error
    fleet = FixedFleet(connect, workers, cpus_per_worker, f"ray-{os.getpid()}", arguments, token)
    if library is None:
        _print_plan(fleet, address, working_dir)
        return
    logging.basicConfig(format="%(levelname)s %(message)s")
    _join(library, address, working_dir)
    click.echo(f"asking the Ray cluster for {workers} workers for {connect}; Ctrl-C drains them", err=True)
    try:
        code = fleet.run(lambda line: click.echo(line, err=True))
    finally:
        library.shutdown()
    context.exit(code)


def _find_token(connect: str, token_file: str | None, *, insecure: bool) -> str:
    """The text of the workers' token, or ''. Raises ConfigurationError if other machines would do without one."""
    from enqueuer.security.curve import find_token

    token = find_token(token_file)
    if token is None and not insecure and not is_loopback(connect):
        raise ConfigurationError(
            f"{connect} is another machine for the nodes: give --token-file FILE with the worker.token that "
            "`enqueuer keygen` made; or --insecure if the network is yours alone"
        )
    return "" if token is None else token.to_text()


def _print_plan(fleet: FixedFleet, address: str, working_dir: str | None) -> None:
    click.echo(f"cluster:        {address}")
    click.echo(f"actors:         {fleet.workers_count}, spread over the nodes")
    click.echo(f"CPUs of each:   {fleet.cpus_per_worker:g}")
    click.echo(f"copied modules: {working_dir or 'none'}")
    click.echo(f"token:          {'given; Ray carries it to the actors' if fleet.token else 'none'}")
    click.echo(f"each runs:      {shlex.join(spelled_out(fleet.arguments))}")


def _arguments(connect: str, cpus_per_worker: float, worker_options: list[str]) -> dict[str, Any]:
    """The arguments of `enqueuer_worker.run_worker`, from the options behind ``--``."""
    own = dict.fromkeys(_OWN)
    with worker_context({"--connect": connect, **own}, worker_options) as context:
        chosen = context.params
        given = context.get_parameter_source("worker_threads")
    threads = chosen["worker_threads"]
    if given is click.core.ParameterSource.DEFAULT:
        threads = max(1, int(cpus_per_worker))
    unset = dict.fromkeys(("name", "stdin_timeout", "token_file", "requeue_exit_code"))
    return {**chosen, **unset, "processes": 1, "worker_threads": threads, "once": False}


def _join(library: Any, address: str, working_dir: str | None) -> None:
    """Become a driver of the cluster, whose workers find modules where this process does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    environment = {} if working_dir is None else {"working_dir": working_dir}
    # Ray waits in native code, for minutes at a wrong address, where Python's handler would not run. There is no actor
    # yet that a Ctrl-C could leave behind.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        library.init(address=address, runtime_env=environment, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError, library.exceptions.RayError) as error:
        raise click.ClickException(f"cannot join the Ray cluster at {address!r}: {error}") from error
    finally:
        signal.signal(signal.SIGINT, before)
