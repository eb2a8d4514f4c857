"""``enqueuer doctor``: checks the surroundings of a training, and shows the verdict on a running one."""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from enqueuer.cli.caller_error import CallerError
from enqueuer.cli.observed import address_options, check_connectable, observer_at
from enqueuer.errors import ConfigurationError
from enqueuer.transport.addresses import is_loopback, is_tcp_address

if TYPE_CHECKING:
    from enqueuer.monitoring.surroundings import Finding

_UNHEALTHY = 1
_PATH = click.Path(path_type=Path)
# The check of the worker program; this library names it and does not import it.
_JOINING = "enqueuer_worker.supervisor.joining_check"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The command's argument and options, which name the checks."""

    address: str | None
    token_file: Path | None
    timeout: float
    connect: str | None
    bind: str | None
    key_file: Path | None
    worker_token: Path | None
    workers: int | None
    worker_threads: int


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@address_options
@click.option("--connect", metavar="ADDRESS", help="On a worker's host: whether a worker can join the trainer there.")
@click.option("--bind", metavar="ADDRESS", help="Before a start: check whether the trainer can bind this address.")
@click.option(
    "--key-file",
    type=_PATH,
    metavar="FILE",
    help="Check the trainer's coordinator.key; --bind also checks the one in ENQUEUER_KEY_FILE.",
)
@click.option(
    "--worker-token",
    type=_PATH,
    metavar="FILE",
    help="Check a worker's token; --connect tries it, or else the one in ENQUEUER_TOKEN_FILE or ENQUEUER_TOKEN.",
)
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="So many workers are to run on this machine.")
@click.option(
    "--worker-threads", type=click.IntRange(min=1), default=1, metavar="N", help="Threads of libraries in each of them."
)
@click.pass_context
def doctor(context: click.Context, /, **given: Any) -> None:
    """Check the surroundings of a training on this machine.

    Each check is ok, or names what mends it; nothing is changed. With ADDRESS, the running trainer there is asked what
    holds it back. Exit codes: 0 if all is ok, 1 if something is to be mended, 2 for impossible options.

    \b
    Examples:
      enqueuer doctor --workers 8 --worker-threads 2
      enqueuer doctor --bind tcp://0.0.0.0:5555 --key-file keys/coordinator.key
      enqueuer doctor --connect tcp://trainer:5555 --worker-token worker.token
      enqueuer doctor tcp://trainer:5555 --token-file grafana.token
    """
    wanted = Wanted(**given)
    if wanted.connect is not None:
        check_connectable(wanted.connect, "--connect")
    if wanted.bind is not None and (not is_tcp_address(wanted.bind) or wanted.bind.endswith(":*")):
        raise CallerError(f"--bind {wanted.bind!r} is no address: tcp://HOST:PORT; an IPv6 address is in brackets")
    if wanted.token_file is not None and wanted.address is None:
        raise CallerError("--token-file is an observer's, for ADDRESS; a worker's token is --worker-token")
    is_well = True
    for finding in _check(wanted):
        is_well = is_well and not finding.cure
        _print(finding)
    context.exit(0 if is_well else _UNHEALTHY)


def _check(wanted: Wanted) -> Iterator[Finding]:
    from enqueuer.host import usable_cpus
    from enqueuer.monitoring import network_checks, surroundings
    from enqueuer.monitoring.surroundings import Finding
    from enqueuer.security.curve import find_key_file
    from enqueuer.security.keys import read_coordinator_key, read_token

    yield from surroundings.check_machine()
    if wanted.workers is not None:
        yield surroundings.check_threads(wanted.workers, wanted.worker_threads, usable_cpus())
    key_file = wanted.key_file if wanted.bind is None else find_key_file(wanted.key_file)
    if key_file is not None:
        yield surroundings.check_key_file("key file", Path(key_file), read_coordinator_key)
    if wanted.worker_token is not None:
        yield surroundings.check_key_file("token", wanted.worker_token, read_token)
    if wanted.bind is not None:
        yield network_checks.check_port(wanted.bind)
        if key_file is None and not is_loopback(wanted.bind):
            yield Finding(
                "keys",
                f"{wanted.bind} can be reached from other machines, so the training needs keys",
                "`enqueuer keygen DIR`, then key_file='DIR/coordinator.key', here --key-file DIR/coordinator.key",
            )
    if wanted.connect is not None:
        yield from _check_joining(wanted.connect, wanted)
    if wanted.address is not None:
        yield from _ask(wanted.address, wanted)


def _check_joining(address: str, wanted: Wanted) -> Iterator[Finding]:
    """The reason, if any, for a worker on this host not to join the trainer at this address."""
    from enqueuer.monitoring import network_checks
    from enqueuer.monitoring.surroundings import Finding
    from enqueuer.security.curve import find_token

    name = network_checks.check_name(address)
    if name is not None:
        yield name
    try:
        token = find_token(wanted.worker_token)
    except ConfigurationError as error:
        if wanted.worker_token is None:  # else told by the check of the token
            yield Finding("token", "that of the environment cannot be used", str(error))
        return
    reason = importlib.import_module(_JOINING).why_not(address, token, wanted.timeout)
    if reason is not None:
        yield Finding("joining", reason.summary, reason.advice)
    else:
        keys = "with this token" if token is not None else "without a token"
        yield Finding("joining", f"the trainer at {address} lets a worker in {keys}")
    path = network_checks.check_path(address)
    if path is not None:
        yield path


def _ask(address: str, wanted: Wanted) -> Iterator[Finding]:
    """The verdict of the trainer at this address, and its figures."""
    from enqueuer.monitoring.surroundings import Finding
    from enqueuer.monitoring.verdict_figures import describe_figures

    try:
        with observer_at(address, wanted.token_file, wanted.timeout) as observer:
            seen = observer.look(with_workers=False)
    except OSError as error:
        yield Finding("verdict", "not known", str(error))
        return
    yield Finding("verdict", seen.sentence, seen.cure)
    for name, text in describe_figures(seen):
        yield Finding(name, text)


def _print(finding: Finding) -> None:
    mark = "mend" if finding.cure else "ok"
    lines = [(f"{mark:<5} {finding.name:<14}", finding.text)]
    if finding.cure:
        lines.append((f"{'':<5} {'→':>14}", finding.cure))
    for head, text in lines:
        click.echo(textwrap.fill(text, 100, initial_indent=f"{head} ", subsequent_indent=" " * 21))
