"""Signals for a poll loop: their numbers are read from a descriptor, between two other events."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any


class SignalPipe:
    """A context in which the given signals only make ``fd`` readable. At its exit their handlers are restored.

    Python allows handlers in the main thread only: in any other thread no signal arrives, and `works` is False.
    """

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self.works = threading.current_thread() is threading.main_thread()
        self._numbers = tuple(numbers)
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup_before = -1
        self.fd = self._write_fd = -1

    def __enter__(self) -> SignalPipe:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        if self.works:
            self._wakeup_before = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
            self._before = {number: signal.signal(number, _do_nothing) for number in self._numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.works:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup_before)
        os.close(self.fd)
        os.close(self._write_fd)

    def read(self) -> list[int]:
        """Return the signals since the last call, in order."""
        with contextlib.suppress(BlockingIOError):
            return list(os.read(self.fd, 4096))
        return []


class OneSigterm:
    """Takes a SIGTERM that comes at once after the first one for the same: Slurm sends two, and then waits."""

    _AT_ONCE_SECONDS = 1.0

    def __init__(self) -> None:
        self._first_at = math.inf

    def is_repeated(self, number: int, now: float) -> bool:
        """Whether this signal is not to count. A later SIGTERM does: it asks for haste."""
        if number != signal.SIGTERM:
            return False
        if math.isinf(self._first_at):
            self._first_at = now
            return False
        return now < self._first_at + self._AT_ONCE_SECONDS


def take_no_notice(numbers: Iterable[signal.Signals]) -> None:
    """Ignore these signals in this process for good, but not in the processes that it starts.

    So this installs a handler that does nothing: programs inherit SIG_IGN, but no handlers. Forked children, such as
    those of a `multiprocessing.Pool` in user code, get the default action back. Otherwise ``terminate()`` would have no
    effect on either.
    """
    numbers = tuple(numbers)
    for number in numbers:
        signal.signal(number, _do_nothing)
        # System calls are restarted, as not every C library handles EINTR.
        signal.siginterrupt(number, False)
    os.register_at_fork(after_in_child=lambda: _restore_default(numbers))


def _restore_default(numbers: tuple[signal.Signals, ...]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """A handler, unlike SIG_IGN: Python delivers the signal and writes its number to the wake-up descriptor."""
