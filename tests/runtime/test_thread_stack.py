"""Where another thread is, as text."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from enqueuer.compute.item import compute_item
from enqueuer.runtime.thread_stack import describe_stack
from tests.support.waiting import wait_until

DEADLINE = 10.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


def in_a_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


class Recursive:
    """An item as deep as its index, which waits there."""

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate
        self.entered = threading.Event()

    def __getitem__(self, index: int) -> None:
        if index:
            self.deeper(index)
        self.wait()

    def deeper(self, index: int) -> None:
        self[index - 1]

    def wait(self) -> None:
        self.entered.set()
        self.gate.wait(DEADLINE)


def test_it_begins_with_the_users_own_code(gate: threading.Event) -> None:
    sequence = Recursive(gate)
    thread = in_a_thread(lambda: compute_item(sequence, 1, seed=0, epoch=0, seed_globals=False))
    assert sequence.entered.wait(DEADLINE)
    heading, *lines = describe_stack(thread).splitlines()
    assert heading == "Stack (most recent call last):"
    functions = [line.rpartition(" in ")[2] for line in lines if line.startswith("  File ")]
    assert functions[:3] == ["__getitem__", "deeper", "__getitem__"]


def test_a_thread_that_computes_no_item_is_shown_whole(gate: threading.Event) -> None:
    thread = in_a_thread(lambda: gate.wait(DEADLINE))
    wait_until(lambda: "gate.wait(DEADLINE)" in describe_stack(thread))
    assert "threading.py" in describe_stack(thread)


def test_of_a_deep_recursion_the_innermost_calls_are_shown(gate: threading.Event) -> None:
    sequence = Recursive(gate)
    thread = in_a_thread(lambda: compute_item(sequence, 300, seed=0, epoch=0, seed_globals=False))
    assert sequence.entered.wait(DEADLINE)
    text = describe_stack(thread)
    assert 16_000 < len(text) < 17_000
    assert "in wait\n" in text


def test_a_thread_that_has_ended_or_never_began_is_nowhere() -> None:
    ended = in_a_thread(lambda: None)
    ended.join()
    assert describe_stack(ended) == describe_stack(threading.Thread()) == ""
