"""A worker process from its supervisor's side: start, commands, health, stack, kill."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from enqueuer.fresh_interpreter import interpreter_command
from enqueuer.started_programs import end_programs, mark
from enqueuer_worker.process.limits import fix_hash_seed
from enqueuer_worker.running import (
    RUNNING_BYTES,
    SHARED_BYTES,
    STACK_SIGNAL,
    Running,
    Work,
    read_rejection,
    read_running,
    read_work,
)
from enqueuer_worker.settings import ChildSettings, Settings, encode_line

# Libraries read these when they are first imported, so they must be in the environment by then.
_THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)
_MAX_STACK_BYTES = 16 * 1024
# The innermost frame of this library's; the frames below it are the same in each worker. `faulthandler` writes the
# innermost frame first.
_OUR_FRAME = re.compile(r"(compute.worker_items|sequence.batch_maker|process.compute_loop)\.py")
# The end of a stack that is too deep for `faulthandler`.
_CUT = "  ...\n"


class Child:
    """A running worker process. Only its supervisor's thread uses this."""

    def __init__(self, settings: Settings, number: int, now: float) -> None:
        """Start the process. Raises OSError if the system cannot."""
        self.number = number
        self.started_at = now
        self.incarnation = os.urandom(16)
        self._running_fd = _make_shared_file()
        self._stack_start = SHARED_BYTES
        self._supervisor = settings.supervisor
        # A terminal's Ctrl-Z must reach the workers of `enqueuer worker`; local ones have no terminal.
        self._has_session = settings.trust == "local"
        try:
            self._process = self._start(settings)
        except BaseException:
            os.close(self._running_fd)
            raise
        self.pid = self._process.pid

    def _start(self, settings: Settings) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        environment.update(dict.fromkeys(_THREAD_COUNTS, str(settings.worker_threads)))
        fix_hash_seed(environment)
        mark(environment, settings.supervisor, self.incarnation.hex())
        process = subprocess.Popen(
            interpreter_command("enqueuer_worker.process.main"),
            stdin=subprocess.PIPE,
            bufsize=0,
            env=environment,
            start_new_session=self._has_session,
            pass_fds=[fd for fd in (self._running_fd, settings.lock_fd, settings.log_fd) if fd is not None],
        )
        child_settings = ChildSettings(settings, self.number, self.incarnation.hex(), self._running_fd, os.getpid())
        self._write(process, child_settings.to_line())
        return process

    def send(self, command: dict[str, Any]) -> None:
        """Write a command to the process's stdin; if it has just ended, the command is lost without an error."""
        self._write(self._process, encode_line(command))

    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        return self._process.poll()

    def running(self) -> Running:
        """Return the task of the process, or the last one of a dead process."""
        return read_running(os.pread(self._running_fd, RUNNING_BYTES, 0))

    def work(self) -> Work:
        """Return the work that the process has done so far."""
        return read_work(os.pread(self._running_fd, RUNNING_BYTES, 0))

    def rejection(self) -> str:
        """Return the trainer's reason for the rejection of an ended process; '' if it was not rejected."""
        return read_rejection(os.pread(self._running_fd, SHARED_BYTES, 0))

    def ask_for_stack(self) -> None:
        """Have the process write its stack. It does not if it is stopped, or if user code took the signal."""
        self._stack_start = os.fstat(self._running_fd).st_size
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(STACK_SIGNAL)

    def stack(self) -> tuple[str, bool]:
        """Return the stack written so far, without this library's frames, and whether it is complete."""
        written = os.pread(self._running_fd, _MAX_STACK_BYTES, self._stack_start)
        text = written.decode(errors="replace")
        ours = _OUR_FRAME.search(text)
        if ours:
            return text[: text.rfind("\n", 0, ours.start()) + 1], True
        return text, text.endswith(_CUT) or len(written) == _MAX_STACK_BYTES

    def is_alive_and_not_stopped(self) -> bool:
        """Whether the process can compute: it has not ended, and was not stopped by SIGSTOP or a debugger."""
        if self._process.poll() is not None:
            return False
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True  # no /proc on this system
        return state not in ("T", "t", "Z", "X")

    def kill(self) -> None:
        """Send SIGKILL. The pid is still this child's: the system reuses it only after the child was waited for."""
        self._process.kill()

    def wait(self, timeout: float) -> None:
        """Wait for the end of the process, ``timeout`` seconds at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)

    def end_programs(self) -> None:
        """End what the ended process's user code has started and left."""
        end_programs(self._supervisor, self.incarnation.hex(), sessions=[self.pid] if self._has_session else ())

    def close(self) -> None:
        """Close this side's descriptors of an ended process."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        os.close(self._running_fd)

    @staticmethod
    def _write(process: subprocess.Popen[bytes], line: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            if process.stdin is not None:
                process.stdin.write(line)


def _make_shared_file() -> int:
    """Make a nameless file for the worker's running lease, rejection and stack; it outlives the worker."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("enqueuer-running")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, SHARED_BYTES)
    return fd
