"""The command ``enqueuer worker``; ``python -m enqueuer_worker`` is the same."""

from __future__ import annotations

import click

from enqueuer.errors import ConfigurationError
from enqueuer_worker.logs import LEVELS
from enqueuer_worker.run import run_worker

_BAD_USAGE = 2


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--connect",
    required=True,
    envvar="ENQUEUER_CONNECT",
    show_envvar=True,
    metavar="ADDRESS",
    help="The trainer: tcp://host:port, as in its bind=… argument. Need not be there yet, and may come and go.",
)
@click.option(
    "--processes",
    default="1",
    envvar="ENQUEUER_PROCESSES",
    show_envvar=True,
    metavar="N|auto",
    help="Worker processes; each computes one batch at a time. 'auto': one for each usable CPU.",
)
@click.option(
    "--sequence",
    "sequences",
    multiple=True,
    envvar="ENQUEUER_SEQUENCE",
    show_envvar=True,
    metavar="PACKAGE.MODULE:CALLABLE",
    help="Lets the trainer have exactly this callable imported and called here. Can be given several times; in the "
    "environment, separated by spaces.",
)
@click.option(
    "--allow",
    "packages",
    multiple=True,
    envvar="ENQUEUER_ALLOW",
    show_envvar=True,
    metavar="PACKAGE",
    help="Lets the trainer have anything that is defined in this package imported and called here, with arguments of "
    "its choice. Can be given several times; in the environment, separated by spaces.",
)
@click.option(
    "--allow-pickle",
    is_flag=True,
    envvar="ENQUEUER_ALLOW_PICKLE",
    show_envvar=True,
    help="Takes live objects as well, which need no SequenceSpec. Unpickling one runs whatever it contains: the "
    "trainer, and whoever has its coordinator.key, can then do anything here that you can. Needs a token.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False),
    envvar="ENQUEUER_TOKEN_FILE",
    show_envvar=True,
    metavar="FILE",
    help="The worker.token that `enqueuer keygen` made beside the trainer's key. With it, this worker is let in, "
    "speaks to nobody but that trainer, and all is encrypted. The token itself can be in ENQUEUER_TOKEN instead.",
)
@click.option(
    "--insecure",
    is_flag=True,
    envvar="ENQUEUER_INSECURE",
    show_envvar=True,
    help="Connects to another machine without a token. Whoever answers there, or listens on the way, reads the "
    "batches and chooses what is called here, within --sequence and --allow.",
)
@click.option(
    "--max-memory",
    envvar="ENQUEUER_MAX_MEMORY",
    show_envvar=True,
    metavar="SIZE",
    help="How much memory of its own each worker process may have, such as 4G; batches that it shares with a trainer "
    "on this host do not count, nor do files that it maps. Beyond it Python raises MemoryError, which the trainer sees "
    "as the batch's error; native code may crash instead, which ends the process, and a batch that does so repeatedly "
    "is given up.  [default: no limit]",
)
@click.option(
    "--name",
    envvar="ENQUEUER_NAME",
    show_envvar=True,
    help="What the trainer's logs and errors call this machine.  [default: its host name]",
)
@click.option(
    "--once", is_flag=True, envvar="ENQUEUER_ONCE", show_envvar=True, help="Leave when the first session has ended."
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    envvar="ENQUEUER_DRAIN_TIMEOUT",
    show_envvar=True,
    metavar="SECONDS",
    help="After SIGTERM or Ctrl-C: how long to finish what was taken on. A second signal stops at once.",
)
@click.option(
    "--max-reconnect-interval",
    type=click.FloatRange(min=0.1, max=86_400),
    default=5.0,
    envvar="ENQUEUER_MAX_RECONNECT_INTERVAL",
    show_envvar=True,
    metavar="SECONDS",
    help="The longest pause between two attempts to reach the trainer, or to start a worker that keeps failing.",
)
@click.option(
    "--allow-skew",
    is_flag=True,
    envvar="ENQUEUER_ALLOW_SKEW",
    show_envvar=True,
    help="Serve although the code here differs from the trainer's: batches then depend on who computes them.",
)
@click.option(
    "--worker-threads",
    type=click.IntRange(min=1),
    default=1,
    envvar="ENQUEUER_WORKER_THREADS",
    show_envvar=True,
    metavar="N",
    help="Threads that NumPy's BLAS, OpenMP, torch and OpenCV may use in each worker process.",
)
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="INFO",
    envvar="ENQUEUER_LOG_LEVEL",
    show_envvar=True,
    help="What to log on stderr, and which of your code's log records to send to the trainer.",
)
@click.option(
    "--log-json", is_flag=True, envvar="ENQUEUER_LOG_JSON", show_envvar=True, help="Log one JSON object a line."
)
@click.pass_context
def worker(
    context: click.Context,
    connect: str,
    processes: str,
    sequences: tuple[str, ...],
    packages: tuple[str, ...],
    allow_pickle: bool,
    token_file: str | None,
    insecure: bool,
    max_memory: str | None,
    name: str | None,
    once: bool,
    drain_timeout: float,
    max_reconnect_interval: float,
    allow_skew: bool,
    worker_threads: int,
    log_level: str,
    log_json: bool,
) -> None:
    """Compute batches on this machine for a trainer elsewhere.

    Starts worker processes that connect to the trainer, build its Sequence and compute the batches that it asks for;
    they outlive it and serve the next one. Modules are found from the current directory. What a trainer may have
    imported here is up to you: at least one of --sequence, --allow and --allow-pickle is needed.

    A trainer on another machine is known by the key in the token (--token-file). One that does not let this worker in
    is tried again every few seconds, and the log says why; with --once, a key that it does not know is the end. Exit
    codes: 0 when all workers have drained, 1 when they could not or were refused, 2 for options that cannot be, 128 +
    the signal's number when a second signal cut it short.

    \b
    Example:
      enqueuer worker --connect tcp://trainer:5555 --processes auto \\
          --token-file worker.token --sequence myproject.data:Training
    """
    try:
        status = run_worker(
            connect,
            processes,
            sequence=sequences,
            allow=packages,
            allow_pickle=allow_pickle,
            token_file=token_file,
            insecure=insecure,
            max_memory=max_memory,
            name=name,
            once=once,
            drain_timeout=drain_timeout,
            max_reconnect_interval=max_reconnect_interval,
            allow_skew=allow_skew,
            worker_threads=worker_threads,
            log_level=log_level.upper(),
            log_json=log_json,
        )
    except ConfigurationError as error:
        click.echo(f"Error: {error}", err=True)
        context.exit(_BAD_USAGE)
    context.exit(status)
