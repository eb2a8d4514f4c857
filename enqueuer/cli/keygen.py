"""``enqueuer keygen``: makes, lists and revokes the keys of remote workers and observers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from enqueuer.cli.caller_error import CallerError
from enqueuer.errors import ConfigurationError

if TYPE_CHECKING:
    from enqueuer.security.key_directory import KeyDirectory

_ANY_NAME = ""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--add-worker",
    metavar="[NAME]",
    is_flag=False,
    flag_value=_ANY_NAME,
    help="Make one more token, DIR/NAME.token. One token per machine lets you revoke each machine alone.",
)
@click.option(
    "--revoke-worker",
    metavar="NAME",
    help="Revoke the token of this name. Workers connected with it are disconnected within seconds.",
)
@click.option(
    "--add-observer",
    metavar="[NAME]",
    is_flag=False,
    flag_value=_ANY_NAME,
    help="Make a token, DIR/NAME.token, that can watch the training (enqueuer status) and do nothing else.",
)
@click.option(
    "--revoke-observer",
    metavar="NAME",
    help="Revoke the observer's token of this name. A running trainer answers it no more within seconds.",
)
@click.option("--list", "show", is_flag=True, help="List the names of all valid tokens and the prefixes of their keys.")
@click.option(
    "--replace",
    is_flag=True,
    help="Replace the keys in DIR. All tokens made before become worthless.",
)
def keygen(
    directory: Path,
    add_worker: str | None,
    revoke_worker: str | None,
    add_observer: str | None,
    revoke_observer: str | None,
    show: bool,
    replace: bool,
) -> None:
    """Make the keys for remote workers.

    Writes DIR/coordinator.key, for the trainer (key_file=… or ENQUEUER_KEY_FILE), and DIR/worker.token, for the workers
    (--token-file, ENQUEUER_TOKEN_FILE, or its one line in ENQUEUER_TOKEN). Connections are then encrypted, and the
    trainer accepts only workers with a token. Keep coordinator.key on the trainer's machine: its owner can pose as the
    trainer. The owner of a token can serve as that worker.

    A running trainer applies changes of coordinator.key within two seconds. To renew a token without a pause, call
    --add-worker, restart the workers with the new token, then call --revoke-worker with the old name.

    \b
    Examples:
      enqueuer keygen ~/.enqueuer
      scp ~/.enqueuer/worker.token gpu-box:
      enqueuer keygen ~/.enqueuer --add-worker other-box
      enqueuer keygen ~/.enqueuer --revoke-worker worker
      enqueuer keygen ~/.enqueuer --add-observer grafana
    """
    from enqueuer.security.key_directory import KeyDirectory

    changes = (add_worker, revoke_worker, add_observer, revoke_observer)
    if sum((*(name is not None for name in changes), show, replace)) > 1:
        raise CallerError(
            "one thing at a time: --add-worker, --revoke-worker, --add-observer, --revoke-observer, --list or --replace"
        )
    try:
        keys = KeyDirectory(directory)
        if any(name is not None for name in changes):
            _change(keys, *changes)
        elif show:
            _list(keys)
        else:
            _create(keys, replace)
    except ConfigurationError as error:
        raise CallerError(str(error)) from error


def _change(
    keys: KeyDirectory,
    add_worker: str | None,
    revoke_worker: str | None,
    add_observer: str | None,
    revoke_observer: str | None,
) -> None:
    if revoke_worker is not None:
        keys.revoke_worker(revoke_worker)
        click.echo(f"revoked {revoke_worker} in {keys.key_file}")
    elif revoke_observer is not None:
        keys.revoke_observer(revoke_observer)
        click.echo(f"revoked {revoke_observer} in {keys.key_file}")
    elif add_worker is not None:
        name = keys.add_worker(add_worker or None)
        click.echo(f"added {name} to {keys.key_file}; its token is {keys.token_file(name)}")
    elif add_observer is not None:
        name = keys.add_observer(add_observer or None)
        click.echo(f"added {name} to {keys.key_file}, to observe alone; its token is {keys.token_file(name)}")


def _list(keys: KeyDirectory) -> None:
    from enqueuer.security.keys import fingerprint

    for name, public_key in keys.workers().items():
        click.echo(f"{name}  {fingerprint(public_key)}")
    for name, public_key in keys.observers().items():
        click.echo(f"{name}  {fingerprint(public_key)}  observes")


def _create(keys: KeyDirectory, replace: bool) -> None:
    name = keys.create(replace=replace)
    if replace:
        click.echo("new keys: every token that was made before is worthless", err=True)
    click.echo(f"for the trainer:  {keys.key_file}  (key_file=…, or ENQUEUER_KEY_FILE)")
    click.echo(f"for the workers:  {keys.token_file(name)}  (--token-file, or ENQUEUER_TOKEN_FILE)")
