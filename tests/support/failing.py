"""Sequences that fail in every way that a user's can, importable like those of `sequences`."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.sequences import Gated, Journaled


class CustomError(Exception):
    """An exception class of the user's own, with an attribute beside its arguments."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code


class OneWayError(Exception):
    """Pickles but does not unpickle: its constructor needs two arguments, its ``args`` hold one."""

    def __init__(self, left: str, right: str) -> None:
        super().__init__(left + right)


class UnprintableError(Exception):
    """Its text ends the program."""

    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


@dataclass
class Point:
    """An object that is not plain data."""

    x: int


FAILURES: dict[str, Callable[[int], BaseException]] = {
    "ValueError": lambda index: ValueError("bad", index),
    "IndexError": lambda index: IndexError("no such", index),
    "KeyError": lambda index: KeyError(("a", "key")),
    "FileNotFoundError": lambda index: FileNotFoundError(2, "No such file"),
    "UnicodeDecodeError": lambda index: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "queue.Empty": lambda index: queue.Empty(),
    "TimeoutError": lambda index: TimeoutError("slow disk"),
    "CustomError": lambda index: CustomError(7, "own class"),
    "OneWayError": lambda index: OneWayError("one", "way"),
    "UnprintableError": lambda index: UnprintableError("unseen", index),
    "StopIteration": lambda index: StopIteration("the end?"),
    "SystemExit": lambda index: SystemExit(3),
    "KeyboardInterrupt": lambda index: KeyboardInterrupt(),
}


def deep_inside_user_code(kind: str, index: int) -> None:
    """A function to find in a traceback's text, which then includes user code."""
    raise FAILURES[kind](index)


@dataclass
class Failing(Journaled):
    """Raises ``FAILURES[kind]`` for each index in ``bad``."""

    kind: str = "ValueError"
    bad: tuple[int, ...] = (3,)

    def batch(self, index: int) -> Any:
        if index in self.bad:
            deep_inside_user_code(self.kind, index)
        return (self.version, index)


@dataclass
class Chained(Journaled):
    """Raises an exception with a cause of the user's own."""

    def batch(self, index: int) -> Any:
        try:
            raise KeyError("the reason")
        except KeyError as reason:
            raise CustomError(1, "the consequence") from reason


@dataclass
class Unknown(Journaled):
    """Raises an exception class that exists only in the worker's process."""

    def batch(self, index: int) -> Any:
        raise type("OnlyHereError", (Exception,), {})("unknown elsewhere")


@dataclass
class HeldAndFailing(Gated):
    """Index 1 fails while others wait at the gate."""

    def batch(self, index: int) -> Any:
        if index == 1:
            raise ValueError("not held", index)
        return super().batch(index)


@dataclass
class Objects(Journaled):
    """Batches with objects that are not plain data: a ``lock`` cannot be pickled, a ``point`` can."""

    kind: str = "lock"
    bad: int = 2

    def batch(self, index: int) -> Any:
        if index != self.bad:
            return {"field": index}
        return {"field": threading.Lock() if self.kind == "lock" else Point(index)}


@dataclass
class Unmeasurable(Journaled):
    """``len()`` fails from the given version on."""

    failing_from: int = 0

    def __len__(self) -> int:
        if self.version >= self.failing_from:
            raise CustomError(self.version, "no length")
        return self.length


@dataclass
class Unending(Journaled):
    """``on_epoch_end`` fails."""

    def on_epoch_end(self) -> None:
        raise CustomError(self.version, "no end")
