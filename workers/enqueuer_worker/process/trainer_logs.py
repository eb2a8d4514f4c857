"""Logs and warns in the trainer: records and warnings of user code in a local worker go to the trainer's own handlers.

If the trainer has handlers for a logger, handlers added to the same logger in this process are left out, or each line
would be there twice. Handlers of other loggers, such as a file of this worker's own, are called here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import warnings
from typing import Any

from enqueuer_worker.logs import LOGGER_NAME

# A packet of the worst text, six bytes a character, is below 64 KiB: the trainer reads no more.
_MAX_CHARACTERS = 8 * 1024
_PLAIN = (str, int, float, bool, type(None))
_LEFT_OUT = frozenset({"args", "exc_info", "msg", "message", "stack_info", "exc_text"})
# The most fields of a record, as callers add them with ``extra``.
_MAX_FIELDS = 64


def log_to_trainer(fd: int, description: str) -> None:
    """Send what user code logs and warns through this socket, with the levels and filters of the trainer."""
    os.set_inheritable(fd, False)
    trainer = json.loads(description)
    root = logging.getLogger()
    for name, level in trainer["levels"].items():
        (root if name == root.name else logging.getLogger(name)).setLevel(level)
    logging.disable(trainer["disable"])
    sink = _Sink(socket.socket(fileno=fd))
    # Without a handler `basicConfig` and the module's functions `logging.info` … would make a handler for stderr here.
    root.addHandler(logging.NullHandler())
    _call_handlers_of_trainer(sink, frozenset(trainer["handled"]) | {root.name})
    _take_over_filters(trainer["filters"])
    _show_warnings_in_trainer(sink)


class _Sink:
    def __init__(self, sending: socket.socket) -> None:
        self._socket = sending

    def send(self, line: dict[str, Any]) -> bool:
        """Send it; False if the trainer is gone."""
        try:
            self._socket.send(json.dumps(line).encode())
        except OSError:
            return False
        return True


# ---------------------------------------------------------------- records


def _call_handlers_of_trainer(sink: _Sink, handled: frozenset[str]) -> None:
    call_own_handlers = logging.Logger.callHandlers

    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        if self.name.startswith(LOGGER_NAME):
            call_own_handlers(self, record)
            return
        logger: logging.Logger | None = self
        while logger is not None:
            if logger.name not in handled:
                for handler in logger.handlers:
                    if record.levelno >= handler.level:
                        handler.handle(record)
            logger = logger.parent if logger.propagate else None
        with contextlib.suppress(Exception):  # a message with the wrong arguments; `logging` is silent there, too
            if not sink.send({"record": _describe_record(record)}):
                call_own_handlers(self, record)

    logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign]


def _describe_record(record: logging.LogRecord) -> dict[str, Any]:
    plain = [
        (name, value)
        for name, value in vars(record).items()
        if name not in _LEFT_OUT and isinstance(value, _PLAIN) and len(str(value)) < 1024
    ]
    described: dict[str, Any] = dict(plain[:_MAX_FIELDS])
    described.update(msg=_cut(record.getMessage()), args=None, exc_info=None)
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    described.update(exc_text=_cut(record.exc_text), stack_info=_cut(record.stack_info))
    while len(json.dumps(described)) > 60_000:
        for name in ("msg", "exc_text", "stack_info"):
            described[name] = described[name] and described[name][: len(described[name]) // 2] + " …"
    return described


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]} …"


# ---------------------------------------------------------------- warnings


def _take_over_filters(filters: list[list[Any]]) -> None:
    """Set the trainer's warnings filters, but for categories unknown here: the trainer filters again."""
    warnings.resetwarnings()
    for action, message, module_of_category, name, module, lineno in reversed(filters):
        category = getattr(sys.modules.get(module_of_category), name, None)
        if isinstance(category, type) and issubclass(category, Warning):
            warnings.filterwarnings(action, message, category, module, lineno)


def _show_warnings_in_trainer(sink: _Sink) -> None:
    show_here = warnings.showwarning

    def show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        described = {
            "kind": [category.__module__, category.__qualname__],
            "text": _cut(str(message)),
            "filename": filename,
            "lineno": lineno,
        }
        if file is not None or not sink.send({"warning": described}):
            show_here(message, category, filename, lineno, file, line)

    warnings.showwarning = show
