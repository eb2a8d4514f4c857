"""`run_worker`: a remote worker program from its arguments to its exit status. The command calls it as well."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from enqueuer.host import check_room
from enqueuer.monitoring.health import DIRECTORY_VARIABLE, open_health_socket
from enqueuer.security.curve import find_token
from enqueuer.transport.addresses import is_loopback
from enqueuer_worker.arguments import check_trust, check_values, count_processes, parse_size, read_lifetime
from enqueuer_worker.importability import import_problem
from enqueuer_worker.interfaces import check_interface
from enqueuer_worker.logs import set_up_logger
from enqueuer_worker.machine_name import machine_name
from enqueuer_worker.settings import Settings
from enqueuer_worker.supervisor.attended import AttendedSupervisor
from enqueuer_worker.supervisor.early_leave import EarlyLeave
from enqueuer_worker.supervisor.supervisor import Supervisor


def run_worker(
    connect: str,
    processes: int | str = 1,
    *,
    data_connect: str | None = None,
    sequence: str | Iterable[str] = (),
    allow: str | Iterable[str] = (),
    allow_pickle: bool = False,
    token_file: str | os.PathLike[str] | None = None,
    insecure: bool = False,
    stdin_timeout: float | None = None,
    max_memory: int | str | None = None,
    name: str | None = None,
    interface: str | None = None,
    once: bool = False,
    drain_timeout: float = 30.0,
    lifetime: float | str | None = None,
    lifetime_stagger: float | str = "0s",
    preemption_notice: str | os.PathLike[str] | None = None,
    requeue_exit_code: int | None = None,
    max_reconnect_interval: float = 5.0,
    allow_skew: bool = False,
    worker_threads: int = 1,
    log_level: str = "INFO",
    log_json: bool = False,
) -> int:
    """Compute batches for the trainer at ``connect`` ('tcp://host:port') until SIGTERM or Ctrl-C.

    The arguments are the options of ``enqueuer worker``; its ``--help`` describes them. Without ``token_file`` the
    environment counts: ENQUEUER_TOKEN_FILE, or ENQUEUER_TOKEN, which is removed from this process's environment. The
    file '-' is a line of standard input.

    Blocks: for one session with ``once``, otherwise until a signal, the end of the lifetime or a preemption notice.
    Only the main thread receives signals.

    Returns the exit status: 0 when the workers have drained, 1 when they could not or were refused,
    ``requeue_exit_code`` in place of both when they left early, 128 + the signal's number when a second signal stopped
    them at once.

    Raises ConfigurationError for invalid arguments, before anything is started.
    """
    sequence, allow = _texts(sequence), _texts(allow)
    name = name or machine_name()
    check_values(locals())
    token = find_token(token_file)
    check_trust(connect, token, insecure=insecure, allow_pickle=allow_pickle)
    check_interface(interface or "")
    count = count_processes(processes)
    check_room(count)
    life_seconds, stagger_seconds = read_lifetime(lifetime, lifetime_stagger)
    settings = Settings(
        connect=connect,
        data_connect=data_connect or "",
        processes=count,
        token="" if token is None else token.to_text(),
        allow_pickle=allow_pickle,
        max_memory=None if max_memory is None else parse_size(max_memory),
        supervisor=os.urandom(16).hex(),
        name=name,
        interface=interface or "",
        once=once,
        stdin_timeout=math.inf if stdin_timeout is None else stdin_timeout,
        drain_timeout=drain_timeout,
        max_reconnect_interval=max_reconnect_interval,
        worker_threads=worker_threads,
        sequences=sequence,
        packages=allow,
        allow_skew=allow_skew,
        # The user's modules are found from the current directory, also when an installed program was started there.
        sys_path=tuple(dict.fromkeys([str(Path.cwd()), *filter(None, sys.path)])),
        log_level=log_level,
        log_json=log_json,
    )
    early_leave = EarlyLeave(
        lifetime=life_seconds,
        stagger=stagger_seconds,
        preemption_notice=os.fspath(preemption_notice or ""),
        requeue_exit_code=requeue_exit_code,
    )
    return _serve(settings, early_leave)


def _serve(settings: Settings, early_leave: EarlyLeave) -> int:
    """Start the logger, the health check and the supervisor; returns the exit status at the supervisor's end."""
    logger = set_up_logger(settings.name, settings.log_level, settings.log_json)
    if not settings.token and not is_loopback(settings.connect):
        logger.warning(
            "no token (--insecure): any program that poses as %s decides what is computed here", settings.connect
        )
    _warn_of_missing_modules(settings, logger)
    health = open_health_socket(os.environ.get(DIRECTORY_VARIABLE))
    kind = Supervisor if settings.stdin_timeout == math.inf else AttendedSupervisor
    return kind(settings, settings.processes, logger, health, early_leave).run()


def _warn_of_missing_modules(settings: Settings, logger: logging.Logger) -> None:
    allowed = [(f"--sequence {target}", target.partition(":")[0]) for target in settings.sequences]
    allowed += [(f"--allow {package}", package) for package in settings.packages]
    for option, module in allowed:
        if (problem := import_problem(module, settings.sys_path)) is not None:
            logger.warning(
                "%s: %s. Modules are looked for from the directory where the worker starts, %s, and among this "
                "Python's packages. Until it can be imported, a trainer that asks for it gets no batch from here",
                option,
                problem,
                Path.cwd(),
            )


def _texts(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
