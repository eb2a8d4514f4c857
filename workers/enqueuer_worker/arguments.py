"""Checks of the arguments of `run_worker`, and so of the command's options; each error names the remedy."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from enqueuer.errors import ConfigurationError
from enqueuer.host import usable_cpus
from enqueuer.transport.addresses import is_loopback
from enqueuer_worker.logs import LEVELS
from enqueuer_worker.sequence.package_names import is_internal

if TYPE_CHECKING:
    from enqueuer.security.keys import WorkerToken

_ADDRESS = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^\s:/\[\]*]+):(\d{1,5})", re.ASCII)
# Hosts that a trainer may bind, and to which no worker can connect.
_WILDCARDS = frozenset({"0.0.0.0", "[::]"})  # noqa: S104 - compared with, not bound
_NAME = r"[^\W\d]\w*"
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smhd]?)", re.ASCII | re.IGNORECASE)
_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
# 0 to 2 have a meaning here, 126 and more for shells.
_LEAST_REQUEUE_CODE, _MOST_REQUEUE_CODE = 3, 125
_PACKAGE = re.compile(rf"{_NAME}(\.{_NAME})*")
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
# The interpreter, NumPy and this program need about half of it.
_LEAST_MEMORY_BYTES = 64 * 1024 * 1024
# The largest resource limit.
_MOST_MEMORY_BYTES = 1 << 63
# A day; libzmq counts the milliseconds in 32 bits.
_LONGEST_SECONDS = 86_400
# A worker's id is this name and a number; on the wire it has 256 characters at most.
_MOST_NAME = 200
_TARGET = re.compile(rf"{_PACKAGE.pattern}:{_NAME}")


def check_values(arguments: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for a value that is wrong on any machine, so that a launcher finds it first.

    ``arguments`` has those of `run_worker` by name. Token, network interface and modules are the machine's own, and
    not checked.
    """
    check_address(arguments["connect"])
    if arguments["data_connect"] is not None:
        check_address(arguments["data_connect"], "data_connect")
    check_allowed(arguments["sequence"], arguments["allow"], allow_pickle=arguments["allow_pickle"])
    check_log_level(arguments["log_level"])
    check_limits(arguments["drain_timeout"], arguments["max_reconnect_interval"], arguments["worker_threads"])
    check_stdin_timeout(arguments["stdin_timeout"])
    if arguments["name"] is not None:
        check_name(arguments["name"])
    read_lifetime(arguments["lifetime"], arguments["lifetime_stagger"])
    check_requeue_exit_code(arguments["requeue_exit_code"])
    check_preemption_notice(os.fspath(arguments["preemption_notice"] or ""))
    count_processes(arguments["processes"])
    if arguments["max_memory"] is not None:
        parse_size(arguments["max_memory"])


def count_processes(processes: int | str) -> int:
    """Return how many workers to start; 'auto' is one for each CPU that this process may use."""
    if processes == "auto":
        return usable_cpus()
    try:
        count = int(processes)
    except ValueError:
        count = 0
    if count < 1:
        raise ConfigurationError(f"processes must be 'auto' or a number of at least 1, not {processes!r}")
    return count


def check_address(address: str, name: str = "connect") -> None:
    """Raise ConfigurationError unless the address, the argument of this name, has the form 'tcp://host:port'."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 65536:
        ports = "" if found is None else " with a port from 1 to 65535"
        raise ConfigurationError(f"{name} must be the trainer's address, 'tcp://host:port'{ports}, not {address!r}")
    if found[1] in _WILDCARDS:
        raise ConfigurationError(
            f"{name}={address!r} is where a trainer listens, on all addresses of its machine: give that "
            "machine's name or address, as in 'tcp://trainer:5555', or 127.0.0.1 on the same machine"
        )


def check_trust(connect: str, token: WorkerToken | None, *, insecure: bool, allow_pickle: bool) -> None:
    """Raise ConfigurationError for another machine without a token, unless the owner takes the risk (``insecure``)."""
    if token is None and not insecure and not is_loopback(connect):
        raise ConfigurationError(
            f"{connect} is another machine, and without a token this worker would serve any program that answers "
            "there. Make keys with `enqueuer keygen DIR` where the trainer runs, and give --token-file with a copy of "
            "its worker.token; or give --insecure if that network is yours alone"
        )
    if token is None and allow_pickle:
        raise ConfigurationError(
            "--allow-pickle lets the trainer run any code here, so it needs --token-file: without a token any program "
            "could pose as the trainer"
        )


def parse_size(size: int | str) -> int:
    """Return the bytes of '512M', '4G', '1.5GiB' or a number; K, M, G and T are powers of 1024."""
    found = _SIZE.fullmatch(str(size).strip())
    nbytes = 0 if found is None else int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))
    if not _LEAST_MEMORY_BYTES <= nbytes < _MOST_MEMORY_BYTES:
        raise ConfigurationError(f"max_memory must be a size like 4G or 512M, of at least 64M, not {size!r}")
    return nbytes


def parse_duration(name: str, duration: float | str) -> float:
    """Return the seconds of '90s', '55m', '2h', '1.5d' or a number."""
    found = _DURATION.fullmatch(str(duration).strip())
    if found is None:
        raise ConfigurationError(f"{name} must be a time like 90s, 55m, 2h or a number of seconds, not {duration!r}")
    return float(found[1]) * _UNIT_SECONDS[found[2].lower()]


def read_lifetime(lifetime: float | str | None, stagger: float | str) -> tuple[float, float]:
    """Return lifetime and stagger in seconds; a lifetime of None is infinite.

    Raises ConfigurationError unless a time is left.
    """
    shortened = parse_duration("lifetime_stagger", stagger)
    if lifetime is None:
        if shortened:
            raise ConfigurationError(f"lifetime_stagger={stagger!r} shortens a lifetime: give lifetime=… as well")
        return math.inf, 0.0
    seconds = parse_duration("lifetime", lifetime)
    if not shortened < seconds:
        least = f"lifetime_stagger={stagger!r}, which shortens it" if shortened else "0"
        raise ConfigurationError(f"lifetime={lifetime!r} must be longer than {least}")
    return seconds, shortened


def check_requeue_exit_code(code: int | None) -> None:
    """Raise ConfigurationError unless a script can tell this exit code from all others; None is no code of its own."""
    if code is not None and not _LEAST_REQUEUE_CODE <= code <= _MOST_REQUEUE_CODE:
        raise ConfigurationError(
            f"requeue_exit_code must be from {_LEAST_REQUEUE_CODE} to {_MOST_REQUEUE_CODE}, which no other end has, "
            f"not {code!r}"
        )


def check_preemption_notice(target: str) -> None:
    """Raise ConfigurationError for a URL other than http:// or https:// with a host."""
    scheme, separator, rest = target.partition("://")
    if separator and (scheme not in ("http", "https") or not rest.strip("/")):
        raise ConfigurationError(
            f"preemption_notice must be a file's path, or a URL that begins with http:// or https://, not {target!r}"
        )


def check_allowed(sequences: tuple[str, ...], packages: tuple[str, ...], *, allow_pickle: bool) -> None:
    """Raise ConfigurationError for a malformed name, and if nothing at all is allowed."""
    for target in sequences:
        if _TARGET.fullmatch(target) is None:
            raise ConfigurationError(f"sequence must look like 'package.module:callable', not {target!r}")
    for package in packages:
        if _PACKAGE.fullmatch(package) is None:
            many = "; several go one by one: --allow A --allow B, or ENQUEUER_ALLOW='A B'" if "," in package else ""
            raise ConfigurationError(f"allow must be a package's dotted name, not {package!r}{many}")
        if is_internal(package):
            raise ConfigurationError(
                f"{package} has functions that unpickle and import all that they are given: allow enqueuer.demo for "
                "the demo, or give --sequence package.module:callable"
            )
    if not sequences and not packages and not allow_pickle:
        raise ConfigurationError(
            "a remote worker imports only what its owner allows: give --sequence package.module:callable (only that) "
            "or --allow PACKAGE (anything in it)"
        )


def check_log_level(level: str) -> None:
    """Raise ConfigurationError unless this is the name of a level."""
    if level not in LEVELS:
        raise ConfigurationError(f"log_level must be one of {', '.join(LEVELS)}, not {level!r}")


def check_limits(drain_timeout: float, max_reconnect_interval: float, worker_threads: int) -> None:
    """Raise ConfigurationError for a number out of its range. Times in seconds."""
    for label, value, least, most in (
        ("drain_timeout", drain_timeout, 0, math.inf),
        ("max_reconnect_interval", max_reconnect_interval, 0.1, _LONGEST_SECONDS),
        ("worker_threads", worker_threads, 1, math.inf),
    ):
        if not least <= value <= most:
            limits = f"at least {least}" if most == math.inf else f"from {least} to {most}"
            raise ConfigurationError(f"{label} must be {limits}, not {value!r}")


def check_stdin_timeout(seconds: float | None) -> None:
    """Raise ConfigurationError unless the longest silence is above 0 seconds and finite; None: no limit."""
    if seconds is not None and not 0 < seconds < math.inf:
        raise ConfigurationError(f"stdin_timeout must be above 0 seconds, not {seconds!r}")


def check_name(name: str) -> None:
    """Raise ConfigurationError unless the name can be part of a worker's id."""
    if len(name) > _MOST_NAME or not name.isprintable():
        raise ConfigurationError(f"name must be up to {_MOST_NAME} printable characters, not {name!r:.80}")
