"""Waits for another thread or process: for a condition with a deadline, never for a fixed time."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

Value = TypeVar("Value")

_POLL_SECONDS = 0.005


def wait_until(condition: Callable[[], object], deadline: float = 10.0, what: str = "the condition") -> None:
    """Return as soon as ``condition()`` is true; raise an AssertionError with ``what`` after ``deadline`` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"{what} did not come true within {deadline} s"
        time.sleep(_POLL_SECONDS)


def wait_until_collected(watched: weakref.ref[Any]) -> None:
    """Return once nothing but cycles of garbage refers to the object any more."""
    wait_until(lambda: gc.collect() >= 0 and watched() is None, what="the end of the watched object")


def settled(value: Callable[[], Value], quiet: float = 0.3, deadline: float = 10.0) -> Value:
    """The result of ``value()`` once it has stayed the same for ``quiet`` seconds.

    Only this shows from outside that something does *not* happen; such tests cost ``quiet`` seconds.
    """
    end = time.monotonic() + deadline
    last, since = value(), time.monotonic()
    while time.monotonic() - since < quiet:
        assert time.monotonic() < end, f"still changing after {deadline} s, now {last!r}"
        time.sleep(_POLL_SECONDS)
        now = value()
        if now != last:
            last, since = now, time.monotonic()
    return last
