"""The worker program's own log lines on stderr: text for people, or JSON for collectors."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TextIO

LOGGER_NAME = "enqueuer.worker"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def make_handler(json_lines: bool, stream: TextIO | None = None) -> logging.Handler:
    """A handler for the given stream, or for stderr as it is now: user code may replace `sys.stderr` later."""
    handler = logging.StreamHandler(stream or sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S")
    handler.setFormatter(_JsonFormatter() if json_lines else text)
    return handler


def set_up_logger(name: str, level: str, json_lines: bool) -> logging.Logger:
    """The logger of this process's own lines, ``enqueuer.worker.<name>``; it does not reach user code's handlers."""
    logger = logging.getLogger(f"{LOGGER_NAME}.{name}")
    logger.handlers = [make_handler(json_lines)]
    logger.setLevel(level)
    logger.propagate = False
    return logger
