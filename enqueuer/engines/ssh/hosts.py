"""The hosts of ``enqueuer launch ssh``: ``[USER@]HOST[:PROCESSES]`` as text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from enqueuer.errors import ConfigurationError

_PROCESSES = r"auto|[1-9]\d{0,5}"
_HOST = re.compile(
    rf"(?P<user>[^\s@:/-][^\s@:/]*@)?(?:\[(?P<address>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<name>[^\s@:/\[\]-][^\s@:/\[\]]*))"
    rf"(?::(?P<processes>{_PROCESSES}))?",
    re.ASCII,
)


class Host(NamedTuple):
    """A destination as `ssh` takes it, and the number of processes there: digits, or 'auto' for one a CPU."""

    name: str
    processes: str


def parse_hosts(texts: Iterable[str], processes: str) -> list[Host]:
    """The hosts; one without a number of its own has this many ``processes``. Raises ConfigurationError."""
    if re.fullmatch(_PROCESSES, processes, re.ASCII) is None:
        raise ConfigurationError(f"processes must be 'auto' or a number of at least 1, not {processes!r}")
    hosts = [_parse(text, processes) for text in texts]
    names = [host.name for host in hosts]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"{name} is given twice: give it once, as {name}:PROCESSES")
    return hosts


def _parse(text: str, processes: str) -> Host:
    found = _HOST.fullmatch(text)
    if found is None:
        raise ConfigurationError(
            "a host is HOST, USER@HOST or HOST:PROCESSES (a number or 'auto'), and an IPv6 address has brackets, as in "
            f"[fe80::1]:4; not {text!r}"
        )
    return Host((found["user"] or "") + (found["address"] or found["name"]), found["processes"] or processes)
