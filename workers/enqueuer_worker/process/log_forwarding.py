"""Log forwarding: lines printed, warned or logged by user code on a remote worker also go to the trainer."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from enqueuer.rate_limit import RateLimit
from enqueuer_worker.core.events import Logged
from enqueuer_worker.logs import make_handler
from enqueuer_worker.process.outbox import Outbox

LINES_PER_SECOND = 100
# A longer line is data; the trainer's log gets its beginning.
_LINE_LIMIT = 4 * 1024

Sink = Callable[[int, str, str], None]


def forward_logs(outbox: Outbox, level: str, json_lines: bool) -> None:
    """Start forwarding: `print` and writes to stderr line by line, `warnings`, and loggers from ``level`` up."""
    limited = LimitedSink(lambda *line: outbox.put(Logged(*line)))
    root = logging.getLogger()
    # Made before stderr is replaced, so a logger's line is not forwarded a second time as a printed one.
    root.addHandler(make_handler(json_lines))
    root.addHandler(_ForwardingHandler(limited))
    root.setLevel(level)
    logging.captureWarnings(True)
    sys.stdout = LineTee(sys.stdout, logging.INFO, "stdout", limited)
    sys.stderr = LineTee(sys.stderr, logging.WARNING, "stderr", limited)


class LimitedSink:
    """Passes `LINES_PER_SECOND` on and drops the rest; reports the number of dropped lines once a second.

    Any thread may call it. A race miscounts a line at worst.
    """

    def __init__(self, sink: Sink, clock: Callable[[], float] = time.monotonic) -> None:
        self._sink = sink
        self._clock = clock
        self._lines = RateLimit(LINES_PER_SECOND, LINES_PER_SECOND)
        self._reports = RateLimit(1, 1.0)
        self._dropped_count = 0

    def __call__(self, level: int, logger: str, text: str) -> None:
        now = self._clock()
        if not self._lines.take(now):
            self._dropped_count += 1
            return
        if self._dropped_count and self._reports.take(now):
            dropped_count, self._dropped_count = self._dropped_count, 0
            self._sink(logging.WARNING, "enqueuer.worker", f"{dropped_count} lines dropped")
        text = text.encode(errors="replace").decode()
        self._sink(level, logger, text if len(text) <= _LINE_LIMIT else f"{text[:_LINE_LIMIT]} …")


class LineTee:
    """A text stream: writes everything to another stream, and each complete line to a sink as well."""

    def __init__(self, stream: TextIO, level: int, name: str, sink: Sink) -> None:
        self._stream = stream
        self._level = level
        self._name = name
        self._sink = sink
        # One for each thread: half lines of two threads printing at the same time must not mix.
        self._partial = threading.local()

    def write(self, text: str) -> int:
        """Write ``text`` to the stream; returns the stream's count."""
        written = self._stream.write(text)
        *lines, self._partial.text = (getattr(self._partial, "text", "") + text).split("\n")
        for line in lines:
            if line.strip():
                self._sink(self._level, self._name, line.rpartition("\r")[2])
        # A progress bar that never ends its line must not grow without bound here.
        self._partial.text = self._partial.text.rpartition("\r")[2][-_LINE_LIMIT:]
        return written

    def writelines(self, lines: list[str]) -> None:
        """Write these strings one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _ForwardingHandler(logging.Handler):
    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._sink(record.levelno, record.name, text)
