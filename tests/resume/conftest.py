from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

DEADLINE = 30.0


class Gated:
    """Batches are their index; that of ``held`` waits for its gate."""

    def __init__(self, length: int, held: int | None, gate: threading.Event) -> None:
        self.length, self.held, self.gate = length, held, gate

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        if index == self.held:
            assert self.gate.wait(DEADLINE)
        return index


@pytest.fixture
def gated() -> Iterator[Callable[..., tuple[Any, threading.Event]]]:
    gates: list[threading.Event] = []

    def make(length: int, held: int | None = None) -> tuple[Any, threading.Event]:
        gates.append(threading.Event())
        return Gated(length, held, gates[-1]), gates[-1]

    yield make
    for gate in gates:
        gate.set()
