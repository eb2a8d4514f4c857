"""``enqueuer keygen``: the keys that let remote workers in, and keep everybody else out."""

from __future__ import annotations

from pathlib import Path

import click

from enqueuer.errors import ConfigurationError

_ANY_NAME = ""


class _CallerError(click.ClickException):
    """What was asked for cannot be: one line, exit code 2."""

    exit_code = 2


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--add-worker",
    metavar="[NAME]",
    is_flag=False,
    flag_value=_ANY_NAME,
    help="Make one more token, DIR/NAME.token. Give each machine that you may want to lock out its own.",
)
@click.option(
    "--revoke-worker",
    metavar="NAME",
    help="Let nobody in any more with the token of this name. Who is connected with it is cut off within seconds.",
)
@click.option("--list", "show", is_flag=True, help="Show whom the coordinator lets in, and the prefixes of their keys.")
@click.option(
    "--replace",
    is_flag=True,
    help="Make new keys although DIR has some: all tokens made before are worthless.",
)
def keygen(directory: Path, add_worker: str | None, revoke_worker: str | None, show: bool, replace: bool) -> None:
    """Make the keys for remote workers.

    Writes DIR/coordinator.key, for the trainer (key_file=… or ENQUEUER_KEY_FILE), and DIR/worker.token, for the workers
    (--token-file, ENQUEUER_TOKEN_FILE, or its one line in ENQUEUER_TOKEN). All that trainer and workers say to each
    other is then encrypted, and nobody else gets in. Whoever has coordinator.key can pose as the trainer: it stays with
    it. Whoever has a token can serve as that worker.

    A trainer that runs takes changes of coordinator.key within a second or two. So tokens are renewed without a pause:
    --add-worker, start the workers anew with the new token, --revoke-worker the old one.

    \b
    Examples:
      enqueuer keygen ~/.enqueuer
      scp ~/.enqueuer/worker.token gpu-box:
      enqueuer keygen ~/.enqueuer --add-worker other-box
      enqueuer keygen ~/.enqueuer --revoke-worker worker
    """
    if sum((add_worker is not None, revoke_worker is not None, show, replace)) > 1:
        raise _CallerError("one thing at a time: --add-worker, --revoke-worker, --list or --replace")
    try:
        _do(directory, add_worker, revoke_worker, show, replace)
    except ConfigurationError as error:
        raise _CallerError(str(error)) from error


def _do(directory: Path, add_worker: str | None, revoke_worker: str | None, show: bool, replace: bool) -> None:
    from enqueuer.security.key_directory import KeyDirectory
    from enqueuer.security.keys import fingerprint

    keys = KeyDirectory(directory)
    if show:
        for name, public_key in keys.workers().items():
            click.echo(f"{name}  {fingerprint(public_key)}")
    elif revoke_worker is not None:
        keys.revoke_worker(revoke_worker)
        click.echo(f"{keys.key_file} does not let {revoke_worker} in any more")
    elif add_worker is not None:
        name = keys.add_worker(None if add_worker == _ANY_NAME else add_worker)
        click.echo(f"{keys.key_file} lets {name} in as well, with {keys.token_file(name)}")
    else:
        name = keys.create(replace=replace)
        if replace:
            click.echo("new keys: every token that was made before is worthless", err=True)
        click.echo(f"for the trainer:  {keys.key_file}  (key_file=…, or ENQUEUER_KEY_FILE)")
        click.echo(f"for the workers:  {keys.token_file(name)}  (--token-file, or ENQUEUER_TOKEN_FILE)")
