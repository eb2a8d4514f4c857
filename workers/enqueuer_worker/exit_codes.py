"""Why a worker process ended by itself. Apart from the core, so that a supervisor need not load that."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The supervisor decides by it what comes next."""

    DONE = 0
    REFUSED = 3
    RECYCLE = 4
