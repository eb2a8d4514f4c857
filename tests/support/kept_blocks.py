"""Memory of Python's own that is neither in use nor given back."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

_TIMES = 1000


def blocks_kept_by(call: Callable[[], object]) -> int:
    """How many blocks more Python has after a thousand calls, beyond what some calls need at a time."""
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
