"""Serving coordinators on other machines: what the command line and `run_worker` both do."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from enqueuer.errors import ConfigurationError
from enqueuer_worker.logs import LEVELS, set_up_logger
from enqueuer_worker.settings import Settings
from enqueuer_worker.supervisor import Supervisor

_ADDRESS = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^\s:/\[\]*]+):(\d{1,5})", re.ASCII)
_NAME = r"[^\W\d]\w*"
_PACKAGE = re.compile(rf"{_NAME}(\.{_NAME})*")
_TARGET = re.compile(rf"{_PACKAGE.pattern}:{_NAME}")


def run_worker(
    connect: str,
    processes: int | str = 1,
    *,
    sequence: str | Iterable[str] = (),
    allow: str | Iterable[str] = (),
    name: str | None = None,
    once: bool = False,
    drain_timeout: float = 30.0,
    max_reconnect_interval: float = 5.0,
    allow_skew: bool = False,
    worker_threads: int = 1,
    log_level: str = "INFO",
    log_json: bool = False,
) -> int:
    """Compute batches for the trainer at ``connect`` ('tcp://host:port') until SIGTERM or Ctrl-C. The exit status.

    The arguments are the options of ``enqueuer worker``, whose ``--help`` describes them. Blocks: for one session with
    ``once``, else until a signal (which only the main thread receives). 0 when the workers have drained, 1 when they
    could not or were refused, 128 + the signal's number when a second one cut it short.
    Raises ConfigurationError, before anything is started, for arguments that cannot be.
    """
    sequences, packages = _texts(sequence), _texts(allow)
    check_address(connect)
    _check_allowed(sequences, packages)
    if log_level not in LEVELS:
        raise ConfigurationError(f"log_level must be one of {', '.join(LEVELS)}, not {log_level!r}")
    for label, value, least in (
        ("drain_timeout", drain_timeout, 0),
        ("max_reconnect_interval", max_reconnect_interval, 0.1),
        ("worker_threads", worker_threads, 1),
    ):
        if not value >= least:
            raise ConfigurationError(f"{label} must be at least {least}, not {value!r}")
    name = name or socket.gethostname()
    settings = Settings(
        connect=connect,
        supervisor=os.urandom(16).hex(),
        name=name,
        once=once,
        drain_timeout=drain_timeout,
        max_reconnect_interval=max_reconnect_interval,
        worker_threads=worker_threads,
        sequences=sequences,
        packages=packages,
        allow_skew=allow_skew,
        # The user's modules are found from the current directory, also where an installed program started us.
        sys_path=tuple(dict.fromkeys([str(Path.cwd()), *filter(None, sys.path)])),
        python_path=os.environ.get("PYTHONPATH"),
        log_level=log_level,
        log_json=log_json,
    )
    return Supervisor(settings, count_processes(processes), set_up_logger(name, log_level, log_json)).run()


def count_processes(processes: int | str) -> int:
    """How many workers to start; 'auto' is one for each CPU that this process may use."""
    if processes == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        count = int(processes)
    except ValueError:
        count = 0
    if count < 1:
        raise ConfigurationError(f"processes must be 'auto' or a number of at least 1, not {processes!r}")
    return count


def check_address(address: str) -> None:
    """Raise ConfigurationError unless this is an address that can be connected to."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 65536:
        raise ConfigurationError(f"connect must be the trainer's address, 'tcp://host:port', not {address!r}")


def _check_allowed(sequences: tuple[str, ...], packages: tuple[str, ...]) -> None:
    for target in sequences:
        if _TARGET.fullmatch(target) is None:
            raise ConfigurationError(f"sequence must look like 'package.module:callable', not {target!r}")
    for package in packages:
        if _PACKAGE.fullmatch(package) is None:
            raise ConfigurationError(f"allow must be a package's dotted name, not {package!r}")
    if not sequences and not packages:
        raise ConfigurationError(
            "a remote worker imports only what its owner allows: give --sequence package.module:callable (that one) "
            "or --allow PACKAGE (anything in it)"
        )


def _texts(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
