"""What one input may cost: an allowance that does not depend on it, and so much for each of its bytes."""

from __future__ import annotations

import faulthandler
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# 64 bytes a byte: a msgpack nil is one byte and a Python list's place, its reader and their list are some of these.
MEMORY_BASE_BYTES = 4 << 20
MEMORY_PER_BYTE = 512
# Wide, since the machine is shared: what is quadratic or worse is far beyond it.
SECONDS_BASE = 1.0
SECONDS_PER_BYTE = 50e-6
_HANG_SECONDS = 20.0


class TooDear(AssertionError):
    """An input took more memory or time than its length allows."""


def feed_measured(feed: Callable[[bytes], object], data: bytes) -> None:
    """Feed it and raise TooDear where it took too much. Several times slower than `feed_timed`."""
    with _traced():
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        feed_timed(feed, data, slack=4.0)
        _, peak = tracemalloc.get_traced_memory()
    allowed = MEMORY_BASE_BYTES + MEMORY_PER_BYTE * len(data)
    if peak - before > allowed:
        raise TooDear(f"{peak - before} bytes of memory for an input of {len(data)} bytes, {allowed} allowed")


def feed_timed(feed: Callable[[bytes], object], data: bytes, *, slack: float = 1.0) -> None:
    started = time.perf_counter()
    feed(data)
    seconds = time.perf_counter() - started
    allowed = slack * (SECONDS_BASE + SECONDS_PER_BYTE * len(data))
    if seconds > allowed:
        raise TooDear(f"{seconds:.2f} s for an input of {len(data)} bytes, {allowed:.2f} allowed")


@contextmanager
def watchdog() -> Iterator[Callable[[], None]]:
    """Ends the process with all stacks when the given function is not called for a while."""

    def still_alive() -> None:
        faulthandler.dump_traceback_later(_HANG_SECONDS, exit=True)

    still_alive()
    try:
        yield still_alive
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def _traced() -> Iterator[None]:
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start()
    try:
        yield
    finally:
        if started:
            tracemalloc.stop()
