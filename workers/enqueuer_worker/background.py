"""One blocking call beside a poll loop."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class BackgroundCall(Generic[Result]):
    """Runs ``call``, which must not raise, in a daemon thread. ``fileno()`` becomes readable when it has returned."""

    def __init__(self, call: Callable[[], Result], name: str) -> None:
        # The result, once there is one. Only the call's thread sets it.
        self.result: Result | None = None
        self._readable, writable = socket.socketpair()

        def run() -> None:
            # The end of the pair makes the other one readable. Each thread closes its own.
            with writable:
                self.result = call()

        threading.Thread(target=run, name=name, daemon=True).start()

    def fileno(self) -> int:
        return self._readable.fileno()

    def close(self) -> None:
        """Take no more interest; the call is not waited for."""
        self._readable.close()
