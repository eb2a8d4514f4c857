"""The trainer's address as an option of `enqueuer launch`."""

from __future__ import annotations

from enqueuer.errors import ConfigurationError
from enqueuer.transport.addresses import is_connectable


def check_address(name: str, address: str) -> None:
    """Raise ConfigurationError unless the address, the argument of this name, is one that workers can connect to."""
    if not is_connectable(address):
        raise ConfigurationError(f"{name} must be the trainer's address, 'tcp://host:port', not {address!r}")
