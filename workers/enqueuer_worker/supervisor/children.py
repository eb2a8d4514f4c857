"""One worker process as its supervisor sees it: started, spoken to, looked after, killed."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from enqueuer_worker.running import RUNNING_BYTES, STACK_SIGNAL, Running, read_running
from enqueuer_worker.settings import ChildSettings, Settings, encode_line

# Read by the libraries when they are first imported, so they have to be in the environment by then.
_THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_MAX_STACK_BYTES = 16 * 1024
# The frame from which on a stack is ours, in every worker the same. `faulthandler` writes the innermost frame first.
_OUR_FRAME = re.compile(r"enqueuer_worker.(sequence.batch_maker|process.compute_loop)\.py")
# How it ends a stack that is too deep for it.
_CUT = "  ...\n"


class Child:
    """A running worker process. Its supervisor's thread is the only one that uses this."""

    def __init__(self, settings: Settings, number: int, now: float) -> None:
        """Start it. Raises OSError when the system cannot."""
        self.number = number
        self.started_at = now
        self.incarnation = os.urandom(16)
        self._running_fd = _make_shared_file()
        self._stack_start = RUNNING_BYTES
        try:
            self._process = self._start(settings)
        except BaseException:
            os.close(self._running_fd)
            raise
        self.pid = self._process.pid

    def _start(self, settings: Settings) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        environment.update(dict.fromkeys(_THREAD_COUNTS, str(settings.worker_threads)))
        # It must import the very files that run here, whatever its own current directory holds.
        environment["PYTHONPATH"] = os.pathsep.join(settings.sys_path)
        safe_path = ["-P"] if sys.version_info >= (3, 11) else []
        process = subprocess.Popen(
            [sys.executable, *safe_path, "-m", "enqueuer_worker.process.main"],
            stdin=subprocess.PIPE,
            bufsize=0,
            env=environment,
            pass_fds=[self._running_fd, *([] if settings.lock_fd is None else [settings.lock_fd])],
        )
        mine = ChildSettings(settings, self.number, self.incarnation.hex(), self._running_fd, os.getpid())
        self._write(process, mine.to_line())
        return process

    def send(self, command: dict[str, Any]) -> None:
        """Say something; a process that has just ended does not hear it, which is seen elsewhere."""
        self._write(self._process, encode_line(command))

    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.poll()

    def running(self) -> Running:
        """What it computes, or was computing when it died."""
        return read_running(os.pread(self._running_fd, RUNNING_BYTES, 0))

    def ask_for_stack(self) -> None:
        """Have it note where it is. A process that is stopped, or whose user took the signal, does not."""
        self._stack_start = os.fstat(self._running_fd).st_size
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(STACK_SIGNAL)

    def stack(self) -> tuple[str, bool]:
        """What it has noted so far, without our own frames, and whether that is all of it."""
        noted = os.pread(self._running_fd, _MAX_STACK_BYTES, self._stack_start)
        text = noted.decode(errors="replace")
        ours = _OUR_FRAME.search(text)
        if ours:
            return text[: text.rfind("\n", 0, ours.start()) + 1], True
        return text, text.endswith(_CUT) or len(noted) == _MAX_STACK_BYTES

    def is_alive_and_not_stopped(self) -> bool:
        """Whether to vouch for it: a process that was stopped (SIGSTOP, a debugger) computes nothing."""
        if self._process.poll() is not None:
            return False
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True  # no /proc on this system
        return state not in ("T", "t", "Z", "X")

    def kill(self) -> None:
        """SIGKILL. The process is ours and not yet waited for, so its pid can be nobody else's."""
        self._process.kill()

    def wait(self, timeout: float) -> None:
        """Wait for its end, ``timeout`` seconds at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)

    def close(self) -> None:
        """Give back what a process that has ended held here."""
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
    """A nameless file for the running lease and a stack: written by the worker, still there after its death."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("enqueuer-running")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, RUNNING_BYTES)
    return fd
