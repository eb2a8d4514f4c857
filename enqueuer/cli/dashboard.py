"""``enqueuer dashboard``: a running trainer, live in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from enqueuer.cli.observed import address_options, connector
from enqueuer.cli.until_interrupted import wait_until_interrupted


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@address_options
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9465,
    help="The port of 127.0.0.1 to serve the page at; 0: any free one.",
)
def dashboard(address: str | None, token_file: Path | None, timeout: float, port: int) -> None:
    """Show in a browser how a training goes and what holds it back.

    The page has figures over time, the limit of the training with its cure, and a table of workers.

    ADDRESS is the trainer's bind=…, such as tcp://trainer:5555. Without it, it is the one trainer that you run on this
    machine. The trainer may start later, end, and start again. Nothing has to be changed in the training script, and
    Ctrl-C changes nothing in it.

    The page is served at 127.0.0.1 alone, to every user of this machine, and loads nothing from elsewhere. From another
    machine, reach it through a tunnel: ssh -L 9465:127.0.0.1:9465 HOST.

    \b
    Example:
      enqueuer dashboard tcp://trainer:5555 --token-file grafana.token
    """
    from enqueuer.monitoring.run_page.broadcast import Broadcast
    from enqueuer.monitoring.run_page.server import DashboardServer
    from enqueuer.top.feed import Feed

    connect = connector(address, token_file, timeout)
    broadcast = Broadcast()
    try:
        server = DashboardServer(broadcast, port)
    except OSError as error:
        raise click.ClickException(f"{error.strerror}: --port gives another one") from error
    feed = Feed(connect, broadcast.take, broadcast.note_silence)
    server.start()
    feed.start()
    click.echo(f"{server.url} shows the training; Ctrl-C ends this program alone")
    try:
        wait_until_interrupted()
    finally:
        # Does not wait for an answer still under way.
        feed.stop()
        broadcast.close()
        server.close()
