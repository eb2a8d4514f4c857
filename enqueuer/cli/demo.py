"""``enqueuer demo``: train a small classifier while other processes and machines prepare its batches."""

from __future__ import annotations

import dataclasses
import logging
import shlex
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from enqueuer.cli.caller_error import CallerError
from enqueuer.cli.option_names import in_option_names
from enqueuer.errors import ConfigurationError, EnqueuerError
from enqueuer.host import in_container

if TYPE_CHECKING:
    from enqueuer import SequenceEnqueuer
    from enqueuer.demo.train import Report, Settings

EXTRAS = frozenset({"PIL", "sklearn", "threadpoolctl", "tqdm"})
WILDCARD_HOSTS = frozenset({"*", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound


@click.command()
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Train on your own images: each sub-folder of DIR is a class. Without it: handwritten digits (UCI).",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Processes on this machine that prepare batches. 0 with --bind: only other machines prepare them.",
)
@click.option(
    "--bind",
    metavar="tcp://HOST:PORT",
    help="Let other machines join at this address, before or during training, e.g. tcp://0.0.0.0:5555.",
)
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="The coordinator.key of `enqueuer keygen`, for a --bind that others can reach.  [env: ENQUEUER_KEY_FILE]",
)
@click.option(
    "--insecure", is_flag=True, help="Use no key: any machine that reaches the address can feed the training."
)
@click.option("--epochs", type=click.IntRange(min=1), default=20, show_default=True, help="Passes over the images.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images in a batch.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The same seed gives the same batches, bit for bit, on any number of workers.",
)
@click.option(
    "--max-queue-size",
    type=int,
    default=10,
    show_default=True,
    help="Batches prepared ahead of training; 0 or less: a whole epoch.",
)
@click.option(
    "--resume",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Save the training to FILE once a second, and resume it if FILE exists. A killed and resumed training ends "
    "with the same weights as one without interruption.",
)
@click.option("--no-baseline", is_flag=True, help="Leave out the comparison with no workers at the end.")
@click.option(
    "--log-level",
    type=click.Choice(("DEBUG", "INFO", "WARNING", "ERROR"), case_sensitive=False),
    default="WARNING",
    envvar="ENQUEUER_LOG_LEVEL",
    show_envvar=True,
    show_default=True,
    help="What to log on stderr; INFO includes each worker that joins or leaves.",
)
def demo(images: Path | None, no_baseline: bool, log_level: str, **options: Any) -> None:
    """Train a small classifier on augmented images.

    Worker processes decode and deform the images and add noise, here and on any machine that joins. At the end the demo
    prints the accuracy on held-out images, and the batches per second with and without workers. Rates begin with the
    first batch; what the start takes before that, mostly imports, is a line of its own.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("enqueuer").setLevel(log_level.upper())
    with _explained():
        from enqueuer.demo.train import Settings, run

        # An absolute path, because workers may run in another directory.
        folder = None if images is None else str(images.absolute())
        settings = Settings(images=folder, **options)
        if no_baseline:
            settings = dataclasses.replace(settings, baseline_seconds=0.0)
        _print_report(settings, run(settings, _on_screen))


@contextmanager
def _explained() -> Iterator[None]:
    """Report the user's mistakes in one line; any other error is a defect and keeps its traceback."""
    try:
        yield
    except (ConfigurationError, OSError) as error:  # an address in use, a folder that may not be read
        raise CallerError(in_option_names(str(error), demo)) from error
    except EnqueuerError as error:
        raise click.ClickException(str(error)) from error
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS:
            raise
        raise click.ClickException(f"the demo needs {error.name}: pip install 'enqueuer[demo]'") from error


@contextmanager
def _on_screen(enqueuer: SequenceEnqueuer, batches_count: int, done_count: int) -> Iterator[Callable[[float], None]]:
    from enqueuer.monitoring.progress import ProgressBar

    # A container's own name is of no use elsewhere.
    if enqueuer.endpoint is not None and not (_binds_all(enqueuer.endpoint) and in_container()):
        click.echo("To help from another machine, run there (in a clone or an environment with enqueuer[demo]):")
        address = _reachable(enqueuer.endpoint)
        click.echo(f"  enqueuer worker --connect {address} {_trust_options(enqueuer)}--allow enqueuer.demo")
    if done_count:
        click.echo(f"resuming after batch {done_count} of {batches_count}")
    with ProgressBar(enqueuer, total=batches_count, initial=done_count) as bar:
        yield lambda loss: bar.update(loss=loss)


def _trust_options(enqueuer: SequenceEnqueuer) -> str:
    """The options to authenticate a worker on the other machine."""
    from enqueuer.transport.addresses import is_loopback

    if enqueuer.key_file is not None:
        token = shlex.quote(str(Path(enqueuer.key_file).with_name("worker.token")))
        return f"--processes auto --token-file {token} "
    assert enqueuer.endpoint is not None
    return "--processes auto " if is_loopback(enqueuer.endpoint) else "--processes auto --insecure "


def _binds_all(endpoint: str) -> bool:
    """Whether the address means all interfaces."""
    return endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]") in WILDCARD_HOSTS


def _reachable(endpoint: str) -> str:
    """The address to connect to; if all interfaces are bound, it has this machine's name."""
    port = endpoint.rpartition(":")[2]
    return f"tcp://{socket.gethostname()}:{port}" if _binds_all(endpoint) else endpoint


def _print_report(settings: Settings, report: Report) -> None:
    images = "digits" if settings.images is None else "images"
    click.echo(f"accuracy: {report.accuracy:.3f} (on {report.held_out_count} held-out {images})")
    stats = report.stats
    if stats.batches_total == 0:
        click.echo(f"{settings.resume} holds a training that was complete; give more --epochs to continue it")
        return
    rate = f"{stats.batches_per_second:.1f}"
    if report.baseline_batches_per_second is not None:
        ratio = stats.batches_per_second / report.baseline_batches_per_second
        rate += f" ({report.baseline_batches_per_second:.1f} with no workers: {ratio:.2f}×)"
    click.echo(f"batches/s: {rate}")
    waited = stats.wait_seconds - stats.startup_wait_seconds
    click.echo(f"time spent waiting for data: {waited:.2f} s ({stats.wait_share:.1%} of the training)")
    start = "the first batch" if settings.workers == 0 and settings.bind is None else "workers to start and load them"
    click.echo(
        f"before the first batch: {report.loading_seconds:.1f} s to load the images here, then "
        f"{stats.startup_seconds:.1f} s for {start}"
    )
