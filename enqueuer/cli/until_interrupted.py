"""The wait of a command that serves in other threads."""

from __future__ import annotations

import time
from typing import NoReturn

# A signal that another thread receives does not wake the main thread, which alone may act on it.
_LOOK_SECONDS = 0.5


def wait_until_interrupted() -> NoReturn:
    """Wait for the exception of a signal's handler, such as KeyboardInterrupt. The main thread calls it."""
    while True:
        time.sleep(_LOOK_SECONDS)
