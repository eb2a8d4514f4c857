"""The end of the stream, and the stream as an iterator for several threads, which a generator cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class StreamEnd(Exception):
    """No more batches: the session was stopped, or the epoch asked for is over. Never leaves this library."""


class SharedIterator:
    """Iterates over the results of ``next_batch`` until it raises `StreamEnd`. Any thread may call ``next()``.

    ``on_begin`` is called before the first batch is asked for.
    """

    def __init__(self, next_batch: Callable[[], Any], on_begin: Callable[[], None]) -> None:
        self._next_batch = next_batch
        self._on_begin: Callable[[], None] | None = on_begin

    def __iter__(self) -> SharedIterator:
        return self

    def __next__(self) -> Any:
        on_begin, self._on_begin = self._on_begin, None
        if on_begin is not None:
            on_begin()
        try:
            return self._next_batch()
        except StreamEnd:
            raise StopIteration from None
