"""Memory that Python keeps although it is no longer in use."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

_TIMES = 1000


def blocks_kept_by(call: Callable[[], object]) -> int:
    """The growth of Python's blocks over a thousand calls, beyond the need of a few calls at a time."""
    gc.collect()  # which empties the lists of what is kept to be used again
    gc.disable()
    try:
        for _ in range(_TIMES):
            call()
        before = sys.getallocatedblocks()
        for _ in range(_TIMES):
            call()
        return sys.getallocatedblocks() - before
    finally:
        gc.enable()
