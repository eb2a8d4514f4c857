"""``enqueuer health``: asks the trainer or the workers that run here, for a container's health check."""

from __future__ import annotations

from pathlib import Path

import click

from enqueuer.monitoring.health import DIRECTORY_VARIABLE, Status, ask_all

_UNHEALTHY = 1


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    envvar=DIRECTORY_VARIABLE,
    show_envvar=True,
    required=True,
    metavar="DIR",
    help="Where the running process was told to be reachable, by the same variable.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=5.0,
    metavar="SECONDS",
    help="How long its loop may take to answer.",
)
@click.option("--ready", is_flag=True, help="Ask for more: a worker must have found its trainer, a trainer a worker.")
@click.option("--idle-ok", is_flag=True, help="A program that has no enqueuer running, at this moment, is well too.")
@click.pass_context
def health(context: click.Context, directory: Path, timeout: float, ready: bool, idle_ok: bool) -> None:
    """Say whether the trainer or the workers that run here are well.

    Asks the very loops that move batches: one that hangs does not answer, and counts as unhealthy, however alive its
    process looks. The process must have been started with ENQUEUER_RUNTIME_DIR set to a directory of its user's own.
    Exit codes: 0 when all are well, 1 when one is not or there is none, 2 for options that cannot be.

    \b
    Example, as a container's health check:
      HEALTHCHECK --interval=10s CMD ["enqueuer", "health"]
    """
    try:
        answers = ask_all(directory, timeout)
    except FileNotFoundError:
        answers = []
    except OSError as error:
        raise click.ClickException(str(error)) from error
    for answer in answers:
        click.echo(describe(answer, timeout))
    if not answers:
        click.echo(f"no enqueuer runs here, as far as {directory} knows")
    well = all(answer is not None and (answer.get("ready") is True or not ready) for answer in answers)
    context.exit(0 if well and (answers or idle_ok) else _UNHEALTHY)


def describe(answer: Status | None, timeout: float) -> str:
    """One line."""
    if answer is None:
        return f"unhealthy: no answer within {timeout:g} s"
    facts = ", ".join(f"{name} {value}" for name, value in answer.items() if name not in ("role", "pid", "ready"))
    return f"{answer.get('role')} (pid {answer.get('pid')}): {facts}"
