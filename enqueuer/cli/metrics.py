"""``enqueuer metrics``: serves the metrics of a running trainer to Prometheus."""

from __future__ import annotations

import errno
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from enqueuer.cli.caller_error import CallerError
from enqueuer.cli.observed import address_options, connector
from enqueuer.cli.until_interrupted import wait_until_interrupted
from enqueuer.errors import ConfigurationError

if TYPE_CHECKING:
    from enqueuer.observer import Observer
    from enqueuer.protocol.observation import Snapshot


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@address_options
@click.option("--port", type=click.IntRange(1, 65535), default=9464, help="The port to serve /metrics on.")
@click.option(
    "--host",
    default="127.0.0.1",
    metavar="HOST",
    help="The address to serve on; 0.0.0.0 for all. Anyone with access to it can read the metrics.",
)
def metrics(address: str | None, token_file: Path | None, timeout: float, port: int, host: str) -> None:
    """Serve the metrics of a running training to Prometheus.

    ADDRESS is the trainer's bind=…, such as tcp://trainer:5555. Without it, it is the one trainer that you run on this
    machine. The trainer may start later, end, and start again: `enqueuer_up` is 0 while it does not answer. Inside the
    training script, metrics_port=… does the same.

    \b
    Example:
      enqueuer metrics tcp://trainer:5555 --token-file grafana.token --port 9464
    """
    from enqueuer.monitoring.metrics import MetricsServer

    with closing(TrainerSource(address, token_file, timeout)) as source:
        try:
            server = MetricsServer(source.snapshot, port, host)
        except ConfigurationError as error:
            raise CallerError(str(error)) from error
        except OSError as error:
            hint = ": --port gives another one" if error.errno == errno.EADDRINUSE else ""
            raise click.ClickException(f"{error.strerror or error}{hint}") from error
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"serving metrics at http://{shown}:{port}/metrics", err=True)
        try:
            wait_until_interrupted()
        finally:
            server.close()


class TrainerSource:
    """Snapshots of a trainer that may come and go. Any thread may call `snapshot`.

    Raises `CallerError` if the address or the token cannot be used, or if it is unclear which trainer is meant.
    """

    def __init__(self, address: str | None, token_file: Path | None, timeout: float) -> None:
        self._connect = connector(address, token_file, timeout)
        self._lock = threading.Lock()
        self._told = ""
        # Made at once, so that the command says at its start that no trainer runs.
        self._observer: Observer | None = None
        try:
            self._observer = self._connect()
        except OSError as error:
            self._tell(str(error))

    def snapshot(self) -> Snapshot | None:
        """The trainer's present Snapshot; None if it does not answer."""
        with self._lock:
            try:
                if self._observer is None:
                    self._observer = self._connect()
                seen = self._observer.look(with_workers=False)
                self._told = ""
                return seen
            except OSError as error:
                self._tell(str(error))
                self._close()
            return None

    def close(self) -> None:
        """Close the connection; under a snapshot that still waits for its answer, it ends with the process."""
        if self._lock.acquire(blocking=False):
            self._close()
            self._lock.release()

    def _close(self) -> None:
        if self._observer is not None:
            self._observer.close()
            self._observer = None

    def _tell(self, reason: str) -> None:
        """Say once why there is no answer."""
        if reason != self._told:
            self._told = reason
            click.echo(reason, err=True)
