"""The supervisor of a trainer's own worker processes: ``python -m enqueuer_worker.local``, commanded over its stdin.

The first line on stdin is a JSON object with

    connect             the coordinator's address, unix://…
    secret              the session's secret, hex
    supervisor          16 bytes, hex
    processes           how many workers
    sys_path            the trainer's sys.path
    trainer_pid         the trainer's process; the supervisor ends with it
    worker_threads      threads for BLAS, OpenMP and their like in each worker (1)
    heartbeat_interval  seconds (1.0)
    log_fd, logging     the socket for what user code logs; the trainer's levels and warnings filters, as JSON (none)
    interpreter         the settings of the trainer's interpreter, as JSON (none)
    log_level           for the workers' own lines on stderr ("WARNING")

Each further line is the next session, ``{"connect": …, "secret": …, "processes": …}``, or the clean end,
``{"leave": seconds}``: each worker closes its Sequence, unless its item takes longer. At the end of stdin, or
of the trainer, everything ends at once: by then the trainer needs no more batches, or is dead.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import zmq

from enqueuer_worker.commands import CommandReader, take_stdin
from enqueuer_worker.logs import set_up_logger
from enqueuer_worker.settings import Settings
from enqueuer_worker.supervisor.signals import take_no_notice
from enqueuer_worker.supervisor.supervisor import Supervisor

# How often to check that the trainer lives: its end does not close stdin while a process that it forked has the pipe.
_TRAINER_CHECK_SECONDS = 0.25


def main() -> None:
    """Serve the trainer that started this process."""
    # After one of these the trainer may still finish an epoch or write a checkpoint, and needs batches for it.
    take_no_notice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    commands = CommandReader(take_stdin())
    try:
        config = json.loads(commands.first_line())
    except EOFError as error:
        sys.exit(str(error))
    logger = set_up_logger("local", config.get("log_level", "WARNING"), json_lines=False)
    supervisor = LocalSupervisor(make_settings(config), config["processes"], logger, commands, config["trainer_pid"])
    sys.exit(supervisor.run())


def make_settings(config: dict[str, Any]) -> Settings:
    """Make the workers' settings from the trainer's first line."""
    return Settings(
        connect=config["connect"],
        supervisor=config["supervisor"],
        name="local",
        processes=config.get("processes", 1),
        secret=config["secret"],
        trust="local",
        reconnects=False,
        heartbeat_interval=config.get("heartbeat_interval", 1.0),
        worker_threads=config.get("worker_threads", 1),
        sys_path=tuple(config["sys_path"]),
        forward_logs=False,
        log_fd=config.get("log_fd"),
        trainer_logging=config.get("logging", ""),
        trainer_interpreter=config.get("interpreter", ""),
        log_level=config.get("log_level", "WARNING"),
    )


class LocalSupervisor(Supervisor):
    """Takes commands from its trainer and ends with it."""

    end_signals: ClassVar[tuple[signal.Signals, ...]] = ()
    # The trainer tells of a death itself, on the same screen.
    death_level: ClassVar[int] = logging.INFO

    def __init__(
        self, settings: Settings, processes: int, logger: logging.Logger, commands: CommandReader, trainer_pid: int
    ) -> None:
        super().__init__(settings, processes, logger)
        self._commands = commands
        self._trainer_pid = trainer_pid
        self._leave_by = math.inf
        self._poller.register(commands.fd, zmq.POLLIN)

    def step(self, ready: dict[Any, int]) -> None:
        if self._commands.fd in ready:
            for command in self._commands.read():
                if "leave" in command:
                    self.ask_to_leave()
                    self._leave_by = time.monotonic() + command["leave"]
                else:
                    self.next_session(command["connect"], command["secret"], command["processes"])
        # A live trainer sends "leave" before it closes stdin.
        orphaned = os.getppid() != self._trainer_pid or (self._commands.ended and self._leave_by == math.inf)
        if orphaned or self._commands.ended or time.monotonic() >= self._leave_by:
            self.kill_and_reap()
            if orphaned:
                remove_socket_directory(self.settings.connect)
            os._exit(0)
        super().step(ready)

    def _next_deadline(self) -> float:
        return min(super()._next_deadline(), self._leave_by, time.monotonic() + _TRAINER_CHECK_SECONDS)


def remove_socket_directory(address: str) -> None:
    """Remove the private directory of a killed trainer; it contains only sockets."""
    directory = Path(address.removeprefix("unix://")).parent
    if address.startswith("unix://") and directory.name.startswith("enqueuer-"):
        import shutil  # with its compressors, for a killed trainer alone

        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
