"""The thread that calls the user's object."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from enqueuer.runtime.hook_thread import HookThread
from tests.support.waiting import wait_until

DEADLINE = 10.0


class Ends:
    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.done: list[int] = []
        self.thread = HookThread("hooks of a test", self.errors.append)
        self.thread.start()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.thread.stop()
    assert made.thread.join(DEADLINE)


def test_tasks_run_in_their_order_in_one_thread_that_is_not_the_callers(ends: Ends) -> None:
    threads: set[str] = set()

    def note(number: int) -> None:
        threads.add(threading.current_thread().name)
        ends.done.append(number)

    for number in range(20):
        ends.thread.submit(note, number)
    wait_until(lambda: len(ends.done) == 20)
    assert ends.done == list(range(20))
    assert threads == {"hooks of a test"}


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_an_error_of_a_task_is_reported_and_the_next_task_runs(ends: Ends, error: BaseException) -> None:
    def fail(_: int) -> None:
        raise error

    ends.thread.submit(fail, 0)
    ends.thread.submit(ends.done.append, 1)
    wait_until(lambda: ends.done == [1])
    assert ends.errors == [error]


def test_stop_skips_tasks_that_have_not_begun(ends: Ends) -> None:
    entered, release = threading.Event(), threading.Event()

    def block(_: int) -> None:
        entered.set()
        assert release.wait(DEADLINE)

    ends.thread.submit(block, 0)
    ends.thread.submit(ends.done.append, 1)
    assert entered.wait(DEADLINE)
    ends.thread.stop()
    assert not ends.thread.join(0.0), "it is still in the first task"
    release.set()
    assert ends.thread.join(DEADLINE)
    assert ends.done == []


def test_the_hook_thread_may_be_stopped_and_joined_by_its_own_task(ends: Ends) -> None:
    joined: list[bool] = []

    def stop(_: int) -> None:
        ends.thread.stop()
        joined.append(ends.thread.join(DEADLINE))

    ends.thread.submit(stop, 0)
    assert ends.thread.join(DEADLINE)
    assert joined == [True]


def test_a_task_submitted_after_the_end_is_never_run(ends: Ends) -> None:
    ends.thread.stop()
    assert ends.thread.join(DEADLINE)
    ends.thread.submit(ends.done.append, 1)
    ends.thread.stop()
    assert ends.done == []


def test_the_hook_thread_does_not_keep_the_interpreter_from_exiting(ends: Ends) -> None:
    assert [thread.daemon for thread in threading.enumerate() if thread.name == "hooks of a test"] == [True]
