"""The trainers of this user on this machine with an address for remote workers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import NamedTuple

from enqueuer.errors import ConfigurationError
from enqueuer.observer import local_observers

_LOOK_SECONDS = 5.0
# Hosts of a bind=… for all addresses, and the host to use on this machine.
_REACHED_BY = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]", "localhost": "127.0.0.1"}  # noqa: S104


class TrainerAddresses(NamedTuple):
    """A trainer's two addresses as programs on its machine reach them, tcp://host:port."""

    control: str
    data: str


def find_trainers(timeout: float = _LOOK_SECONDS) -> list[TrainerAddresses]:
    """The addresses of all trainers with ``bind``. Raises OSError if other users can enter the sockets' directory."""
    found = []
    for observer in local_observers(timeout=timeout):
        with observer, contextlib.suppress(OSError):  # it has just ended, or hangs
            seen = observer.look(with_workers=False)
            if seen.bind:
                found.append(TrainerAddresses(reachable(seen.bind), reachable(seen.data_bind)))
    return found


def choose(found: Iterable[TrainerAddresses], connect: str | None) -> TrainerAddresses | None:
    """The trainer at the address ``connect``, or the only one; None: it is not there.

    Raises ConfigurationError if there are several and no address is given.
    """
    if connect is not None:
        return next((trainer for trainer in found if trainer.control == reachable(connect)), None)
    trainers = sorted(found)
    if len(trainers) > 1:
        addresses = ", ".join(trainer.control for trainer in trainers)
        raise ConfigurationError(f"you run several trainers on this machine: choose one by --connect: {addresses}")
    return trainers[0] if trainers else None


def reachable(address: str) -> str:
    """The address with a host for use on this machine: the host of a bind=… may mean all addresses."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return f"tcp://{_REACHED_BY.get(host, host)}:{port}"
