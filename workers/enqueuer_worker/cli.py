"""The command ``enqueuer worker``; ``python -m enqueuer_worker`` is the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import click

from enqueuer.cli.caller_error import CallerError
from enqueuer.cli.option_names import in_option_names
from enqueuer.errors import ConfigurationError
from enqueuer_worker.arguments import check_values
from enqueuer_worker.logs import LEVELS
from enqueuer_worker.run import run_worker

_PARAMETERS = inspect.signature(run_worker).parameters


def _option(flag: str, **details: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option for a parameter of `run_worker`: of the same name and default, also set by a variable ENQUEUER_…."""
    name = flag.removeprefix("--").replace("-", "_")
    if not details.get("required"):
        details["default"] = _PARAMETERS[name].default
    return click.option(flag, envvar=f"ENQUEUER_{name.upper()}", show_envvar=True, **details)


class WorkerCommand(click.Command):
    """Checks the values of its options when it reads them, so that `enqueuer launch` finds mistakes as well."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        try:
            check_values(ctx.params)
        except ConfigurationError as error:
            raise CallerError(in_option_names(str(error), self)) from error
        return rest


@click.command(cls=WorkerCommand, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@_option(
    "--connect",
    required=True,
    metavar="ADDRESS",
    help="The trainer's address: tcp://host:port, as in its bind=… argument. The trainer may start later, and may end "
    "and start again.",
)
@_option(
    "--processes",
    type=str,
    metavar="N|auto",
    help="Worker processes; each computes one batch at a time. 'auto': one for each usable CPU.",
)
@_option(
    "--data-connect",
    metavar="ADDRESS",
    help="Where this machine reaches the trainer's second port, that for batches, if not where the trainer says: "
    "through a tunnel to another port, for example.",
)
@_option(
    "--sequence",
    multiple=True,
    metavar="PACKAGE.MODULE:CALLABLE",
    help="Lets the trainer have exactly this callable imported and called here. Can be given several times; in the "
    "environment, separated by spaces.",
)
@_option(
    "--allow",
    multiple=True,
    metavar="PACKAGE",
    help="Lets the trainer have any callable that is defined in this package imported and called here, with arguments "
    "of its choice. Can be given several times; in the environment, separated by spaces.",
)
@_option(
    "--allow-pickle",
    is_flag=True,
    help="Takes live objects as well, which need no SequenceSpec. Unpickling one runs any code in it: the trainer, and "
    "anyone with its coordinator.key, can then do anything here that you can. Needs a token.",
)
@_option(
    "--token-file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="The worker.token that `enqueuer keygen` made beside the trainer's key. With it the trainer lets this worker "
    "in, the worker speaks to that trainer only, and all is encrypted. '-' is the first line of standard input. The "
    "token itself can be in ENQUEUER_TOKEN instead.",
)
@_option(
    "--insecure",
    is_flag=True,
    help="Connects to another machine without a token. Any program that answers there, or listens on the way, reads "
    "the batches and chooses what is called here, within --sequence and --allow.",
)
@_option(
    "--stdin-timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="For a program that starts this worker elsewhere: drain as after SIGTERM when it writes the line 'drain' to "
    "standard input, when standard input ends, and when no line comes for this long.  [default: it is not read]",
)
@_option(
    "--max-memory",
    metavar="SIZE",
    help="How much memory of its own each worker process may have, such as 4G; batches that it shares with a trainer "
    "on this host do not count, nor do files that it maps. Beyond the limit Python raises MemoryError, which the "
    "trainer sees as the batch's error. Native code may crash instead, which ends the process; a batch that does so "
    "repeatedly is given up.  [default: no limit]",
)
@_option(
    "--name",
    help="The name of this machine in the trainer's logs and errors.  [default: its host name; under Docker Compose, "
    "service and number]",
)
@_option(
    "--interface",
    metavar="IFACE",
    help="The network interface, such as eth1 or ib0, from whose address this machine connects to the trainer: where "
    "several networks lead there, or a firewall lets only one through. Nothing connects to a worker, so no address is "
    "announced; the name in logs is that of --name.  [default: as the system routes]",
)
@_option(
    "--once",
    is_flag=True,
    help="Leave when the first session has ended, or with exit code 1 when the trainer refuses this machine.",
)
@_option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="After SIGTERM, Ctrl-C, or another reason to leave: how long to finish the batches taken on. A second signal "
    "stops at once.",
)
@_option(
    "--lifetime",
    metavar="TIME",
    help="Drain after this time, such as 90s, 55m or 2h: before a batch system's time limit, which kills. Leave "
    "--drain-timeout and 10 s until then.  [default: no limit]",
)
@_option(
    "--lifetime-stagger",
    metavar="TIME",
    help="Shortens the lifetime by a random time up to this, so that machines which started together do not all leave "
    "together.",
)
@_option(
    "--preemption-notice",
    metavar="PATH_OR_URL",
    help="Drain when this file is there, or when this URL answers 200 with a body that is not FALSE or NONE, as a "
    "cloud's metadata service does before it takes a machine away. Looked at every second or two.",
)
@_option(
    "--requeue-exit-code",
    type=int,
    metavar="N",
    help="Exit with this code, from 3 to 125, after a drain that a signal, a preemption notice or the end of the "
    "lifetime caused: a batch script can then requeue its job, which it must not do after an end of its own.  "
    "[default: as after any other end]",
)
@_option(
    "--max-reconnect-interval",
    type=click.FloatRange(min=0.1, max=86_400),
    metavar="SECONDS",
    help="The longest pause between two attempts to reach the trainer, or to start a worker that keeps failing.",
)
@_option(
    "--allow-skew",
    is_flag=True,
    help="Serve although the code here differs from the trainer's: a batch then depends on the worker that computes "
    "it.",
)
@_option(
    "--worker-threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads that NumPy's BLAS, OpenMP, torch and OpenCV may use in each worker process.",
)
@_option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    help="The least level of the lines that are logged on stderr, and of your code's log records that are sent to the "
    "trainer.",
)
@_option("--log-json", is_flag=True, help="Log one JSON object a line.")
@click.pass_context
def worker(context: click.Context, /, **options: Any) -> None:
    """Compute batches on this machine for a trainer elsewhere.

    Starts worker processes. They connect to the trainer, build its Sequence and compute the batches that it asks for;
    when it ends, they wait for the next trainer. Modules are found from the current directory. You decide what a
    trainer may have imported here: at least one of --sequence, --allow and --allow-pickle is needed.

    A trainer on another machine is identified by the key in the token (--token-file). If no trainer answers, or the
    trainer rejects this worker, the worker logs the reason and tries again every few seconds; with --once it ends if
    it is rejected.

    Exit codes: 0 when all workers have drained, 1 when they could not or were refused, 2 for invalid options, the one
    of --requeue-exit-code when it left early, 128 + the signal's number when a second signal stopped it at once.

    \b
    Example:
      enqueuer worker --connect tcp://trainer:5555 --processes auto \\
          --token-file worker.token --sequence myproject.data:Training
    """
    try:
        status = run_worker(**options)
    except ConfigurationError as error:
        raise CallerError(in_option_names(str(error), context.command)) from error
    context.exit(status)
