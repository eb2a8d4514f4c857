"""The argument and options of commands for observing a trainer, and the observers made from them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from enqueuer.cli.caller_error import CallerError
from enqueuer.errors import ConfigurationError
from enqueuer.transport.addresses import is_connectable

if TYPE_CHECKING:
    from enqueuer.observer import Observer

NOT_RUNNING = 2


def check_connectable(address: str, option: str = "") -> None:
    """Raise CallerError unless a peer can connect to the address, the value of this option or of ADDRESS."""
    if not is_connectable(address):
        hint = "; put the trainer's host in place of '*'" if "*" in address else ""
        raise CallerError(
            f"{option} {address!r} is no address: tcp://HOST:PORT, as in the trainer's bind=…{hint}".strip()
        )


class SeveralTrainersError(ConnectionError):
    """This user runs several trainers on this machine, and no address says which one is meant."""


F = TypeVar("F", bound=Callable[..., Any])


def address_options(command: F) -> F:
    """The argument ADDRESS and its options."""
    for decorate in (
        click.argument("address", required=False, metavar="[ADDRESS]"),
        click.option(
            "--token-file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="An observer's token, for a trainer with keys. [env var: ENQUEUER_TOKEN_FILE or ENQUEUER_TOKEN]",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0.1),
            default=5.0,
            metavar="SECONDS",
            help="How long a trainer may take to answer.",
        ),
    ):
        command = decorate(command)
    return command


def observer_at(address: str, token_file: Path | None, timeout: float) -> Observer:
    """The observer of the trainer at this address. Raises `CallerError` and `NoTrainerError`."""
    from enqueuer.observer import UNIX_SCHEME, Observer
    from enqueuer.security.curve import find_observer_token

    if not address.startswith(UNIX_SCHEME):
        check_connectable(address)
    try:
        token = find_observer_token(token_file)
    except ConfigurationError as error:
        raise CallerError(str(error)) from error
    return Observer(address, token, timeout=timeout)


def one_observer(address: str | None, token_file: Path | None, timeout: float) -> Observer:
    """The observer of the trainer at this address; None: of the only trainer of this user on this machine.

    Raises `CallerError`, `NoTrainerError`, and `SeveralTrainersError` if there is more than one without an address.
    """
    if address is not None:
        return observer_at(address, token_file, timeout)
    from enqueuer.observer import NoTrainerError, local_observers

    found = local_observers(timeout=timeout)
    if len(found) == 1:
        return found[0]
    for observer in found:
        observer.close()
    if not found:
        raise NoTrainerError("no trainer runs here")
    addresses = ", ".join(observer.address for observer in found)
    raise SeveralTrainersError(f"several trainers run here: give the address of one of them: {addresses}")


def connector(address: str | None, token_file: Path | None, timeout: float) -> Callable[[], Observer]:
    """A function that returns a new observer of this trainer, or raises OSError while the trainer does not run.

    Raises `CallerError` for an invalid address or token. A trainer may start later, so its absence is no error here.
    """
    with suppress(ConnectionError):
        try:
            one_observer(address, token_file, timeout).close()
        except SeveralTrainersError as error:
            raise CallerError(str(error)) from None

    def connect() -> Observer:
        try:
            return one_observer(address, token_file, timeout)
        except CallerError as error:
            raise ConnectionError(error.message) from error

    return connect
