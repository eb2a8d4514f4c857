"""The stream as an iterator: a generator cannot be pulled by two threads at once; this can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class StreamEnd(Exception):
    """No more batches: the session was stopped, or the epoch asked for is over. Never leaves this library."""


class SharedIterator:
    """``next_batch`` raises `StreamEnd` at the end."""

    def __init__(self, next_batch: Callable[[], Any]) -> None:
        self._next_batch = next_batch

    def __iter__(self) -> SharedIterator:
        return self

    def __next__(self) -> Any:
        try:
            return self._next_batch()
        except StreamEnd:
            raise StopIteration from None
