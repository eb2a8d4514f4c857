"""The trainer's own worker processes: a supervisor, started by name as a fresh interpreter, and its children.

    trainer ── stdin: a line of JSON for each session; closed: end ──► supervisor ──► workers
            ◄── life pipe: closed when the supervisor dies ──

The trainer never forks itself (fork with threads or CUDA deadlocks), and no process imports its ``__main__`` (no guard
is needed). The supervisor and its children end when the pipe to its stdin closes, so also when the trainer is killed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enqueuer.compute.interpreter_settings import describe_settings
from enqueuer.errors import ConfigurationError
from enqueuer.fresh_interpreter import interpreter_command
from enqueuer.runtime.worker_logs import WorkerLogs, describe_logging
from enqueuer.started_programs import end_programs

_PROGRAM = "enqueuer_worker.local"
# After this many deaths in a row, each this soon after the start, the supervisor is not started again.
_YOUNG_SECONDS = 5.0
_MAX_YOUNG_DEATHS = 3
# An idle worker leaves in some 10 ms. A worker inside an item gets this long.
_LEAVE_SECONDS = 0.3
# The least time for the supervisor to kill its children itself.
_KILL_SECONDS = 0.1
# Held while the pipes of a start are open. A fork in another thread, such as a `multiprocessing.Manager` in the user's
# constructor, waits for it: the fork would keep its copies of both pipes open, so neither the end of the start nor the
# supervisor's death could be seen. Reentrant, for signal handlers.
_starting = threading.RLock()
os.register_at_fork(before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release)
# Errors for a file that is no program, or no program for this user or this machine.
_NO_PROGRAM = (errno.ENOENT, errno.ENOEXEC, errno.EACCES, errno.EPERM)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The trainer's surroundings, as local workers get them: `sys.path`, environment, directory, logging, interpreter.

    They are read before any user code runs, since it may change all of them (importing OpenCV does).
    """

    sys_path: tuple[str, ...]
    environment: dict[str, str]
    directory: str
    logging: str = ""
    interpreter: str = ""

    @classmethod
    def now(cls) -> Surroundings:
        """The surroundings at this moment, with folders of imported modules that are no longer in `sys.path`."""
        directory = str(Path.cwd())
        path = [entry or directory for entry in sys.path]
        return cls(
            tuple(dict.fromkeys([*path, *_folders_of_modules()])),
            dict(os.environ),
            directory,
            describe_logging(),
            describe_settings(),
        )


def _folders_of_modules() -> list[str]:
    """The folders from which this process has imported top-level modules, in no particular order."""
    folders = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." not in name and isinstance(file, str) and name not in sys.stdlib_module_names:
            path = Path(file)
            folders.append(str(path.parents[1] if path.name == "__init__.py" else path.parent))
    return [folder for folder in dict.fromkeys(folders) if Path(folder).is_absolute()]


class LocalProcesses:
    """One supervisor process, restarted if it dies."""

    def __init__(self, worker_threads: int, heartbeat_interval: float) -> None:
        self._worker_threads = worker_threads
        self._heartbeat_interval = heartbeat_interval
        self._process: subprocess.Popen[bytes] | None = None
        self._interpreter = ""
        self._session: dict[str, Any] = {}
        self._surroundings: Surroundings | None = None
        self._logs: WorkerLogs | None = None
        self._life_reader = -1
        self._started = 0.0
        self._young_deaths = 0
        self._stopping = False
        # Several threads may call `stop`, and each descriptor must be closed once. Reentrant, for signal handlers.
        self._stop_lock = threading.RLock()

    def attach(
        self,
        *,
        connect: str,
        secret: bytes,
        processes: int,
        surroundings: Surroundings,
        watch: Callable[[int, Callable[[], None]], None],
        on_death: Callable[[bytes], None],
        on_hopeless: Callable[[str], None],
    ) -> None:
        """Serve this session: start the supervisor, or send a running one the session's address.

        ``watch(fd, callback)`` calls back, in the I/O thread, when the descriptor becomes readable. In that thread each
        death is reported to ``on_death(supervisor_id)``, and too many early deaths to ``on_hopeless(reason)``.
        """
        self._session = {"connect": connect, "secret": secret.hex(), "processes": processes}
        self._surroundings = surroundings
        self._stopping, self._young_deaths = False, 0
        self._watch, self._on_death, self._on_hopeless = watch, on_death, on_hopeless
        if self._process is None or self._process.poll() is not None:
            self._start()
        else:
            self._tell(self._session)
            self._watch(self._life_reader, self._died)
        self._watch_logs()

    def _watch_logs(self) -> None:
        if self._logs is not None:
            self._watch(self._logs.fileno(), self._read_logs)

    def _read_logs(self) -> None:
        """Handle the workers' log records. Called in the I/O thread."""
        if not self._stopping and self._logs is not None:
            self._logs.read()
            self._watch_logs()

    def _start(self) -> None:
        with _starting:
            self._start_program()
        assert self._surroundings is not None
        assert self._logs is not None
        self._tell(
            {
                **self._session,
                "supervisor": self._id.hex(),
                "sys_path": self._surroundings.sys_path,
                "worker_threads": self._worker_threads,
                "heartbeat_interval": self._heartbeat_interval,
                "trainer_pid": os.getpid(),
                "log_fd": self._logs.sending.fileno(),
                "logging": self._surroundings.logging,
                "interpreter": self._surroundings.interpreter,
            }
        )
        self._watch(self._life_reader, self._died)

    def _start_program(self) -> None:
        surroundings = self._surroundings
        assert surroundings is not None
        self._close_pipes()
        self._process = None
        command = interpreter_command(_PROGRAM)
        self._interpreter = command[0]
        self._id = os.urandom(16)
        self._started = time.monotonic()
        self._life_reader, life_writer = os.pipe()
        self._logs = self._logs or WorkerLogs()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                # The supervisor alone holds this end open, so its death, whatever the cause, closes the pipe.
                pass_fds=(life_writer, self._logs.sending.fileno()),
                env=surroundings.environment,
                cwd=surroundings.directory,
                # A session of its own: Ctrl-C in the terminal is the trainer's to handle.
                start_new_session=True,
            )
        except BaseException as error:
            self._close_pipes()
            self._close_logs()
            if isinstance(error, OSError) and error.errno in _NO_PROGRAM:
                raise ConfigurationError(
                    f"the interpreter to start workers with, {command[0]!r}, does not start: {error.strerror}; name "
                    "another by multiprocessing.set_executable('/path/to/python') before start()"
                ) from error
            raise
        finally:
            os.close(life_writer)

    def _tell(self, line: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: the life pipe reports that
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()

    def _died(self) -> None:
        """Report the death and restart the supervisor. Called in the I/O thread when the life pipe closes."""
        if self._stopping or self._process is None:
            return
        self._process.wait()
        self._end_programs()
        self._on_death(self._id)
        young = time.monotonic() - self._started < _YOUNG_SECONDS
        self._young_deaths = self._young_deaths + 1 if young else 0
        if self._young_deaths >= _MAX_YOUNG_DEATHS:
            self._on_hopeless(
                f"the supervisor of the local worker processes died {self._young_deaths} times in a row "
                f"(exit code {self._process.returncode}); its output above says why{self._name_of_interpreter()}"
            )
        else:
            with self._stop_lock:
                if not self._stopping:
                    self._start()

    def _name_of_interpreter(self) -> str:
        if self._interpreter == sys.executable:
            return ""
        own = f"must be a Python like {sys.executable!r}"
        return f"; {self._interpreter!r}, set by multiprocessing.set_executable(), {own}"

    def stop(self, timeout: float) -> None:
        """End the supervisor and its children within ``timeout`` seconds.

        Workers leave in order (their Sequence is closed, their exit handlers run); inside a long item they are killed.
        """
        self._stopping = True
        with self._stop_lock:
            if self._process is not None:
                self._end(self._process, timeout)
            self._close_pipes()
            self._process = None
            self._close_logs()

    def _close_logs(self) -> None:
        if self._logs is not None:
            self._logs.close()
            self._logs = None

    def _end(self, process: subprocess.Popen[bytes], timeout: float) -> None:
        assert process.stdin is not None
        deadline = time.monotonic() + timeout
        grace = min(_LEAVE_SECONDS, timeout / 2)
        self._tell({"leave": grace})
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2 * grace)
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(max(_KILL_SECONDS, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._end_programs()

    def _end_programs(self) -> None:
        """End the workers of a killed supervisor, and the programs started by them."""
        end_programs(self._id.hex(), sessions=[] if self._process is None else [self._process.pid])

    def disarm(self) -> None:
        """In a forked child of the trainer: close its copies of the pipes, so they end with the trainer."""
        self._stopping = True
        self._stop_lock = threading.RLock()
        self._close_pipes()
        self._process = None
        if self._logs is not None:
            self._logs.disarm()
            self._logs = None

    def _close_pipes(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if self._life_reader >= 0:
            os.close(self._life_reader)
            self._life_reader = -1
