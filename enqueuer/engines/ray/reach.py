"""How the nodes of a Ray cluster reach a trainer."""

from __future__ import annotations

from collections.abc import Iterable

from enqueuer.errors import ConfigurationError
from enqueuer.transport.addresses import is_connectable, is_loopback

# Where a trainer listens on all of its addresses.
_WILDCARDS = frozenset({"*", "0.0.0.0", "[::]"})  # noqa: S104 - compared with, not bound


def address_for_workers(bound: str | None, here: str) -> str | None:
    """The address for nodes of a trainer bound at ``bound`` on the node ``here``; None: its port is not known."""
    if bound is None or bound.endswith(":*"):
        return None
    host, _, port = bound.removeprefix("tcp://").rpartition(":")
    if host in _WILDCARDS:
        host = f"[{here}]" if ":" in here else here
    return f"tcp://{host}:{port}"


def check_reachable(bound: str | None, address: str | None, here: str, nodes: Iterable[str]) -> None:
    """Raise ConfigurationError if workers on these nodes cannot connect to a trainer on the node ``here``.

    ``address`` is the user's own; None: the address of ``bound``.
    """
    if bound is None:
        raise ConfigurationError(
            "the workers of a Ray fleet connect to the trainer: make the enqueuer with bind='tcp://0.0.0.0:5555' and "
            "key_file=…; `enqueuer keygen DIR` makes the key"
        )
    if address is not None:
        if not is_connectable(address):
            raise ConfigurationError(f"address must be 'tcp://host:port', not {address!r}")
        return
    elsewhere = sorted(set(nodes) - {here})
    if elsewhere and is_loopback(bound):
        raise ConfigurationError(
            f"the Ray node {elsewhere[0]} cannot reach a trainer at {bound}: make the enqueuer with "
            "bind='tcp://0.0.0.0:5555' and key_file=…"
        )
