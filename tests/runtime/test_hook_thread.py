"""The thread that builds and calls the user's object, and a session's tasks in it."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from enqueuer.runtime import hook_thread
from enqueuer.runtime.hook_thread import HookThread, SessionTasks
from tests.support.waiting import wait_until

DEADLINE = 30.0
NAME = "hooks of a test"


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


@pytest.fixture
def thread() -> Iterator[HookThread]:
    made = HookThread(NAME)
    yield made
    made.end()
    wait_until(lambda: not running(), what="the thread's end")


class Session:
    def __init__(self, thread: HookThread) -> None:
        self.errors: list[BaseException] = []
        self.done: list[int] = []
        self.tasks = SessionTasks(thread, self.errors.append)


@pytest.fixture
def session(thread: HookThread) -> Session:
    return Session(thread)


class Gate:
    """A task that runs until it is released."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    def __call__(self, _: int = 0) -> str:
        self.entered.set()
        assert self.release.wait(DEADLINE)
        return "released"


# ---------------------------------------------------------------- the thread


def test_calls_run_in_one_thread_that_is_not_the_callers(thread: HookThread) -> None:
    names = {thread.call(lambda: threading.current_thread().name) for _ in range(20)}
    assert names == {NAME}
    assert [found.daemon for found in running()] == [True]


def test_a_call_returns_the_result_and_raises_the_error_with_its_traceback(thread: HookThread) -> None:
    def fail() -> None:
        raise LookupError("in user code")

    assert thread.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(LookupError, match="in user code") as caught:
        thread.call(fail)
    assert caught.traceback[-1].name == "fail"


def test_a_call_in_the_thread_itself_runs_at_once(thread: HookThread) -> None:
    assert thread.call(lambda: thread.call(lambda: thread.is_current))
    assert not thread.is_current


def test_after_its_end_the_thread_starts_again_with_the_next_call(thread: HookThread) -> None:
    first = thread.call(threading.get_ident)
    old = running()
    assert thread.is_running
    thread.end()
    assert not thread.is_running
    old[0].join(DEADLINE)
    assert thread.call(lambda: threading.current_thread()) not in old
    assert first == old[0].ident


def test_tasks_submitted_before_the_end_are_done(thread: HookThread) -> None:
    gate = Gate()
    tasks = [thread.submit(gate), thread.submit(lambda: "after")]
    thread.end()
    gate.release.set()
    assert [task.result(DEADLINE) for task in tasks] == ["released", "after"]


def test_a_thread_that_nothing_refers_to_ends() -> None:
    made = HookThread(NAME)
    made.call(int)
    del made
    gc.collect()
    wait_until(lambda: not running(), what="the thread's end")


def test_an_idle_thread_keeps_nothing_of_its_tasks_alive(thread: HookThread) -> None:
    class Kept:
        pass

    thread.call(lambda kept: None, Kept())
    gc.collect()
    assert not [found for found in gc.get_objects() if type(found) is Kept]


def test_a_long_wait_is_logged_with_the_place_in_user_code(
    thread: HookThread, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hook_thread, "_REPORT_SECONDS", 0.01)
    gate = Gate()
    task = thread.submit(gate)
    assert gate.entered.wait(DEADLINE)
    waiter = threading.Thread(target=thread.wait, args=(task,))
    with caplog.at_level(logging.WARNING, "enqueuer"):
        waiter.start()
        wait_until(lambda: "kept its caller waiting" in caplog.text)
    gate.release.set()
    waiter.join(DEADLINE)
    assert "self.release.wait(DEADLINE)" in caplog.text


def test_an_interrupted_wait_leaves_the_task_running(thread: HookThread, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    gate = Gate()
    task = thread.submit(gate)
    with monkeypatch.context() as patched:
        patched.setattr(hook_thread.futures, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            thread.wait(task)
    gate.release.set()
    assert thread.wait(task) == "released"


# ---------------------------------------------------------------- a session's tasks


def test_tasks_run_in_their_order(session: Session) -> None:
    for number in range(20):
        session.tasks.submit(session.done.append, number)
    wait_until(lambda: len(session.done) == 20)
    assert session.done == list(range(20))


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_an_error_of_a_task_is_reported_and_the_next_task_runs(session: Session, error: BaseException) -> None:
    def fail(_: int) -> None:
        raise error

    failing = session.tasks.begin(fail, 0)
    session.tasks.submit(session.done.append, 1)
    wait_until(lambda: session.done == [1])
    assert session.errors == [error]
    with pytest.raises(type(error)):
        session.tasks.wait(failing)


def test_stop_skips_the_sessions_tasks_that_have_not_begun_and_no_others(thread: HookThread, session: Session) -> None:
    gate, other = Gate(), Session(thread)
    session.tasks.submit(gate, 0)
    session.tasks.submit(session.done.append, 1)
    other.tasks.submit(other.done.append, 2)
    assert gate.entered.wait(DEADLINE)
    session.tasks.stop()
    assert not session.tasks.join(0.0), "it is still in the first task"
    gate.release.set()
    assert session.tasks.join(DEADLINE)
    wait_until(lambda: other.done == [2])
    assert session.done == []


def test_a_session_may_be_stopped_and_joined_by_its_own_task(session: Session) -> None:
    joined: list[bool] = []

    def stop(_: int) -> None:
        session.tasks.stop()
        joined.append(session.tasks.join(DEADLINE))

    session.tasks.begin(stop, 0).result(DEADLINE)
    assert session.tasks.join(DEADLINE)
    assert joined == [True]


def test_a_wait_ends_when_the_session_is_stopped(session: Session) -> None:
    gate = Gate()
    task = session.tasks.begin(gate, 0)
    waiter = threading.Thread(target=session.tasks.wait, args=(task,))
    waiter.start()
    assert gate.entered.wait(DEADLINE), "a task that has not begun would be skipped"
    session.tasks.stop()
    waiter.join(DEADLINE)
    assert not waiter.is_alive() and not task.done()
    gate.release.set()


def test_a_task_whose_wait_was_interrupted_is_not_waited_for_by_join(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    gate = Gate()
    task = session.tasks.begin(gate, 0)
    assert gate.entered.wait(DEADLINE)
    with monkeypatch.context() as patched:
        patched.setattr(hook_thread.futures, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            session.tasks.wait(task)
    session.tasks.stop()
    assert session.tasks.join(DEADLINE)
    assert not task.done()
    gate.release.set()
