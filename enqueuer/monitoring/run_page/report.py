"""The report of a session: recorded in the I/O thread once a second, and written after the end as one HTML file."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from enqueuer.errors import SequenceError, safe_text
from enqueuer.monitoring.run_page.document import build_page
from enqueuer.monitoring.run_page.recorder import Recorder
from enqueuer.protocol.observation import Snapshot

logger = logging.getLogger("enqueuer")

_LOOK_SECONDS = 1.0
# A thousand workers in one look would keep the I/O thread for 20 ms.
_ROWS_A_LOOK = 50

# A snapshot with the workers from a number on, so many of them, and the events after a number.
Show = Callable[[int, int, int], Snapshot]
# The faults after a number, each with its number, the seconds since the start, and its text.
Faults = Callable[[int], Iterable[tuple[int, float, str]]]


class Report:
    """Records one session and writes the page to ``path``, in place of any earlier file.

    Raises OSError, with a text for people, if no file can be written there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Absolute, since the training may change its directory; resolved, since writing would replace a link.
        self._path = Path(os.path.realpath(path))
        self._recorder = Recorder()
        # Infinite until `begin`, and again after the end.
        self._look_at = math.inf
        self._first_row = 0
        self._last_fault = 0
        # The I/O thread records, and the session's stopping thread writes.
        self._lock = threading.Lock()
        self._try_path(path)

    def _try_path(self, path: str | os.PathLike[str]) -> None:
        try:
            if self._path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a directory")
            if self._path.exists() and not self._path.is_file():
                # A device or pipe would be replaced by the report: for root also /dev/null, for the whole machine.
                raise OSError(errno.EINVAL, "it is there and no regular file")
            with self._beside().open("x"):
                pass
        except OSError as error:
            raise OSError(error.errno, f"report={os.fspath(path)!r} cannot be written: {error.strerror}") from None
        finally:
            self._remove_beside()

    def begin(self, show: Show, faults: Faults) -> None:
        """Record from now on: the session runs, and leaves a report however it ends."""
        self._show, self._faults = show, faults
        self._look_at = 0.0

    def look(self, now: float) -> None:
        """Record the session, if a second has passed. Called in each turn of the I/O thread."""
        if now >= self._look_at:
            with self._lock:
                if now >= self._look_at:
                    self._look_at = now + _LOOK_SECONDS
                    self._record()

    def record_end(self) -> None:
        """Record the session for the last time; in the I/O thread, before the workers leave."""
        with self._lock:
            if self._look_at < math.inf:
                self._look_at = math.inf
                self._record(is_last=True)

    def _record(self, *, is_last: bool = False) -> None:
        seen = self._show(self._first_row, _ROWS_A_LOOK, self._recorder.last_event)
        self._first_row += len(seen.rows)
        if not seen.rows or self._first_row >= seen.rows_total:
            self._first_row = 0
        self._recorder.add(seen, is_last=is_last)
        faults = list(self._faults(self._last_fault))
        if faults:
            self._last_fault = faults[-1][0]
            self._recorder.add_faults([(at, text) for _, at, text in faults], self._last_fault)

    def write(self, failure: str) -> None:
        """Write the page; ``failure`` is the text of the session's final error, or ''. Logs an error of the disk."""
        with self._lock:
            self._look_at = math.inf
            if self._recorder.latest is None:
                return  # the session never ran
            record = {"state": "report", "reason": failure, "run": self._recorder.to_json()}
        try:
            self._beside().write_text(build_page(record), "utf-8")
            self._beside().replace(self._path)
        except OSError as error:
            logger.error("the report %s cannot be written: %s", self._path, error.strerror)
        else:
            logger.info("the report of the session is in %s", self._path)
        finally:
            self._remove_beside()

    def _beside(self) -> Path:
        """The temporary file; once complete, it replaces the report."""
        return self._path.with_name(f".{self._path.name[:100]}.{os.getpid()}-{id(self):x}")

    def _remove_beside(self) -> None:
        with contextlib.suppress(OSError):
            self._beside().unlink(missing_ok=True)


def describe_failure(error: BaseException) -> str:
    """The error and its batch's epoch, index and worker; after an empty line, the traceback on the worker, if any."""
    cause = error.__cause__
    text = f"{type(error).__name__}: {safe_text(error)}"
    if not isinstance(cause, SequenceError):
        return text
    return "\n\n".join(filter(None, (f"{text} ({cause.args[0]})", cause.remote_traceback)))
