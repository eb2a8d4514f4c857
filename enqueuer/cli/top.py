"""``enqueuer top``: a running trainer, live in the terminal."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from enqueuer.cli.caller_error import CallerError
from enqueuer.cli.observed import address_options, connector

if TYPE_CHECKING:
    from enqueuer.top.app import TopApp


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@address_options
@click.pass_context
def top(context: click.Context, address: str | None, token_file: Path | None, timeout: float) -> None:
    """Show live how a training goes and what holds it back.

    The screen has plots, the limit of the training with its cure, and a table of workers.

    ADDRESS is the trainer's bind=…, such as tcp://trainer:5555. Without it, it is the one trainer that you run on this
    machine. The trainer may start later, end, and start again. Nothing has to be changed in the training script, and
    leaving (q or Ctrl-C) changes nothing in it. `?` shows all keys.

    \b
    Example:
      enqueuer top tcp://trainer:5555 --token-file grafana.token
    """
    try:
        from enqueuer.top.app import TopApp
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("textual", "rich"):
            raise
        raise CallerError("it needs Textual: pip install 'enqueuer[top]'") from None

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CallerError("it needs a terminal: `enqueuer status` prints one look, also as --json")
    # Here, and not above: `enqueuer --help` imports every command's module.
    import asyncio

    context.exit(asyncio.run(_show(TopApp(connector(address, token_file, timeout)))))


async def _show(app: TopApp) -> int:
    """Run the program until its end, and return its exit code. SIGTERM, too, leaves the terminal as it was."""
    from asyncio import get_running_loop

    code = 128 + signal.SIGTERM  # as a shell reports a program that the signal ends
    get_running_loop().add_signal_handler(signal.SIGTERM, lambda: app.exit(return_code=code))
    await app.run_async()
    return app.return_code or 0
