"""A supervisor tied to the program at the other end of its standard input, perhaps on another machine.

    line                  sign of life
    line "drain"          like SIGTERM
    end of the input      like SIGTERM
    silence for too long  like SIGTERM: the machine of the program is gone, or the network to it

The first line of standard output is "enqueuer VERSION": the supervisor runs. If the input ends during a drain, the
drain ends at once. `enqueuer launch ssh` starts workers like this, because SSH forwards no signal, and its server does
not notice when the client's machine vanishes.
"""

from __future__ import annotations

import math
import os
import signal
import time
from typing import Any

import zmq

from enqueuer import __version__
from enqueuer_worker.supervisor.supervisor import Supervisor

_STDIN = 0
_CHUNK = 4096
_FAILED = 1


class AttendedSupervisor(Supervisor):
    """Drains when standard input says so, ends, or is silent for ``settings.stdin_timeout`` seconds."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._line = b""
        self._silent_at = time.monotonic() + self.settings.stdin_timeout
        self._poller.register(_STDIN, zmq.POLLIN)

    def run(self) -> int:
        print(f"enqueuer {__version__}", flush=True)
        return super().run()

    def step(self, ready: dict[Any, int]) -> None:
        now = time.monotonic()
        if _STDIN in ready:
            self._read(now)
        if now >= self._silent_at:
            self._silent_at = math.inf
            self._logger.warning("nothing came on standard input for %g s", self.settings.stdin_timeout)
            # The launcher may only be cut off, or suspended: it is to start this worker again.
            self.exit_status = _FAILED
            self._on_end_signal(signal.SIGTERM, now)
        super().step(ready)

    def _read(self, now: float) -> None:
        if chunk := os.read(_STDIN, _CHUNK):
            self._silent_at = now + self.settings.stdin_timeout
            *lines, self._line = (self._line + chunk).split(b"\n")
            ends = lines.count(b"drain")
        else:
            self._poller.unregister(_STDIN)
            self._silent_at = math.inf
            self._logger.info("standard input has ended")
            ends = 1
        for _ in range(ends):
            self._on_end_signal(signal.SIGTERM, now)

    def _next_deadline(self) -> float:
        return min(super()._next_deadline(), self._silent_at)
