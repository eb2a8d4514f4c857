"""``enqueuer doctor``: checks the surroundings of a training, and tells what holds a running one back."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from enqueuer.cli.caller_error import CallerError
from enqueuer.cli.observed import address_options, observer_at
from enqueuer.transport.addresses import is_tcp_address

if TYPE_CHECKING:
    from enqueuer.monitoring.surroundings import Finding

_UNHEALTHY = 1
_PATH = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@address_options
@click.option("--connect", metavar="ADDRESS", help="On a worker's host: check the way to the trainer at this address.")
@click.option("--bind", metavar="ADDRESS", help="Before a start: check whether the trainer can bind this address.")
@click.option("--key-file", type=_PATH, metavar="FILE", help="Check the trainer's coordinator.key.")
@click.option("--worker-token", type=_PATH, metavar="FILE", help="Check a worker's token.")
@click.pass_context
def doctor(
    context: click.Context,
    address: str | None,
    token_file: Path | None,
    timeout: float,
    connect: str | None,
    bind: str | None,
    key_file: Path | None,
    worker_token: Path | None,
) -> None:
    """Check the surroundings of a training on this machine.

    Each check is ok, or names what mends it; nothing is changed. With ADDRESS, the running trainer there is asked what
    holds it back. Exit codes: 0 if all is ok, 1 if something is to be mended, 2 for impossible options.

    \b
    Examples:
      enqueuer doctor
      enqueuer doctor --bind tcp://0.0.0.0:5555 --key-file keys/coordinator.key
      enqueuer doctor --connect tcp://trainer:5555 --worker-token worker.token
      enqueuer doctor tcp://trainer:5555 --token-file grafana.token
    """
    for name, given in (("--connect", connect), ("--bind", bind)):
        if given is not None and (not is_tcp_address(given) or given.endswith(":*")):
            raise CallerError(f"{name} {given} is no address: tcp://HOST:PORT")
    is_well = True
    for finding in _check(address, token_file, timeout, connect, bind, key_file, worker_token):
        is_well = is_well and not finding.cure
        _print(finding)
    context.exit(0 if is_well else _UNHEALTHY)


def _check(
    address: str | None,
    token_file: Path | None,
    timeout: float,
    connect: str | None,
    bind: str | None,
    key_file: Path | None,
    worker_token: Path | None,
) -> Iterator[Finding]:
    from enqueuer.monitoring import surroundings
    from enqueuer.security.keys import read_coordinator_key, read_token

    yield from surroundings.check_machine()
    if key_file is not None:
        yield surroundings.check_key_file("key file", key_file, read_coordinator_key)
    if worker_token is not None:
        yield surroundings.check_key_file("token", worker_token, read_token)
    if bind is not None:
        yield surroundings.check_port(bind)
    if connect is not None:
        yield from surroundings.check_connection(connect)
    if address is not None:
        yield _ask(address, token_file, timeout)


def _ask(address: str, token_file: Path | None, timeout: float) -> Finding:
    """The verdict of the trainer at this address."""
    from enqueuer.monitoring.surroundings import Finding

    try:
        with observer_at(address, token_file, timeout) as observer:
            seen = observer.look(with_workers=False)
    except OSError as error:
        return Finding("verdict", "not known", str(error))
    return Finding("verdict", seen.sentence, seen.cure)


def _print(finding: Finding) -> None:
    mark = "mend" if finding.cure else "ok"
    lines = [(f"{mark:<5} {finding.name:<14}", finding.text)]
    if finding.cure:
        lines.append((f"{'':<5} {'→':>14}", finding.cure))
    for head, text in lines:
        click.echo(textwrap.fill(text, 100, initial_indent=f"{head} ", subsequent_indent=" " * 21))
