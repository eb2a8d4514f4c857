"""``enqueuer health``: checks the trainer or the workers of this host, as a container's health check."""

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
    help="The directory that the running process was given by the same variable.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=5.0,
    metavar="SECONDS",
    help="How long a process may take to answer.",
)
@click.option("--ready", is_flag=True, help="Require also that a worker has found its trainer, and a trainer a worker.")
@click.option("--idle-ok", is_flag=True, help="Exit with 0 also if no trainer or worker is running.")
@click.pass_context
def health(context: click.Context, directory: Path, timeout: float, ready: bool, idle_ok: bool) -> None:
    """Check the trainer or the workers that run here.

    Asks the loops that move batches. A loop that hangs does not answer and counts as unhealthy, even if its process
    looks alive. The processes must have been started with ENQUEUER_RUNTIME_DIR set to a private directory of their
    user. Exit codes: 0 if all are healthy, 1 if one is not, none is running or DIR cannot be used, 2 for impossible
    options.

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
        click.echo(f"no enqueuer runs here: {directory} has no health socket")
    healthy = all(answer is not None and (answer.get("ready") is True or not ready) for answer in answers)
    context.exit(0 if healthy and (answers or idle_ok) else _UNHEALTHY)


def describe(answer: Status | None, timeout: float) -> str:
    """One line about one process."""
    if answer is None:
        return f"unhealthy: no answer within {timeout:g} s"
    facts = ", ".join(f"{name} {value}" for name, value in answer.items() if name not in ("role", "pid", "ready"))
    return f"{answer.get('role')} (pid {answer.get('pid')}): {facts}"
