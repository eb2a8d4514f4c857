"""Log records and warnings of user code in local workers, for this process's own handlers and filters.

    worker: Logger, warnings ──► one packet of JSON each ──► WorkerLogs.read ──► this process's handlers, filters

Workers start with the levels and warnings filters of this process, which applies its own again to each record. Equal
warnings of several workers are shown once, as one process would show them. The other side is
`enqueuer_worker.process.trainer_logs`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import sys
import warnings
from typing import Any

# A longer record is cut by the worker.
_PACKET_BYTES = 64 * 1024


def describe_logging() -> str:
    """This process's levels, loggers with handlers, and warnings filters, as JSON for the workers."""
    root = logging.getLogger()
    loggers = [logger for logger in list(root.manager.loggerDict.values()) if isinstance(logger, logging.Logger)]
    return json.dumps(
        {
            "levels": {logger.name: logger.level for logger in [*loggers, root] if logger.level},
            "disable": root.manager.disable,
            "handled": [logger.name for logger in [*loggers, root] if logger.handlers],
            "filters": [_describe_filter(*entry) for entry in warnings.filters],
        }
    )


def _describe_filter(action: str, message: Any, category: Any, module: Any, lineno: int) -> list[Any]:
    # Python's own filters name the whole module; others hold patterns.
    pattern = f"{module}\\Z" if isinstance(module, str) else getattr(module, "pattern", "")
    return [action, getattr(message, "pattern", ""), category.__module__, category.__qualname__, pattern, lineno]


class WorkerLogs:
    """The workers' records and warnings; ``sending`` is the workers' end. Any thread may call it."""

    def __init__(self) -> None:
        # Linux lets ten datagrams wait at times, and as many packets as the buffer takes. macOS has no packets.
        kind = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
        self._socket, self.sending = socket.socketpair(socket.AF_UNIX, kind)
        self._socket.setblocking(False)
        # Where warnings of modules that this process has not imported were shown.
        self._shown: dict[Any, Any] = {}

    def fileno(self) -> int:
        """The descriptor that is readable when there are records."""
        return self._socket.fileno()

    def read(self) -> None:
        """Handle all records that are there."""
        with contextlib.suppress(OSError):  # none is left, or closed meanwhile
            while True:
                self._handle(json.loads(self._socket.recv(_PACKET_BYTES)))

    def close(self) -> None:
        """Handle what is left, and close both ends."""
        self.read()
        self.disarm()

    def disarm(self) -> None:
        """Close both ends, and handle nothing."""
        self.sending.close()
        self._socket.close()

    def _handle(self, line: dict[str, Any]) -> None:
        if "warning" in line:
            self._warn(**line["warning"])
            return
        record = logging.makeLogRecord(line["record"])
        if record.levelname == f"Level {record.levelno}":
            record.levelname = logging.getLevelName(record.levelno)  # the script may have named it
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)

    def _warn(self, kind: list[str], text: str, filename: str, lineno: int) -> None:
        category = _find_category(*kind)
        module = _find_module(filename)
        source = sys.modules.get(module)
        registry = self._shown if source is None else vars(source).setdefault("__warningregistry__", {})
        try:
            warnings.warn_explicit(text, category, filename, lineno, module, registry)
        except Warning:  # "error": the worker's filters have raised it where it belongs, or did not know the category
            warnings.showwarning(text, category, filename, lineno)


def _find_category(module: str, name: str) -> type[Warning]:
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) and issubclass(found, Warning) else UserWarning


def _find_module(filename: str) -> str:
    """The name of the module with this source, ``__main__`` for the script; the file's own name if there is none."""
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) == filename:
            return name
    return filename.removesuffix(".py")
