"""The hook thread: the one thread of an enqueuer that builds its Sequence and calls it in the trainer.

    session 1: open, on_epoch_end, pickling ── SessionTasks ──┐
    len(), load_state_dict() ─────────────────── call ────────┼──► tasks, one after the other ──► thread
    session 2 ──────────────────────────────── SessionTasks ──┘

An object that belongs to the thread which made it (a connection of sqlite3, an event loop) is made, used and closed in
this one. The I/O thread runs no task: it must go on answering workers while a hook takes its time.

The thread starts with its first task and ends with `HookThread.end`, after the tasks before it; a later task starts
another thread.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

from enqueuer.compute.overdue import describe_stack

logger = logging.getLogger("enqueuer")

# A task is reported after this many seconds, and again after twice as many.
_REPORT_SECONDS = 30.0
_Future = futures.Future[Any]


class HookThread:
    """Runs tasks one after the other. Any thread may call any method.

    It may end while its last task runs: `end` waits for nothing.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # Reentrant: the garbage collector may run a finalizer, and so `end`, in the middle of `submit`.
        self._lock = threading.RLock()
        self._tasks: queue.SimpleQueue[_Task | None] | None = None
        self._thread: threading.Thread | None = None

    def submit(self, function: Callable[..., Any], *args: Any) -> _Future:
        """Run the call after all tasks submitted before. Raises RuntimeError if the system has no more threads."""
        task = _Task(function, args)
        with self._lock:
            if self._tasks is None:
                tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
                # Daemon: a hook that never returns must not keep the interpreter from exiting.
                thread = threading.Thread(target=_run_tasks, args=(tasks,), name=self._name, daemon=True)
                thread.start()
                self._tasks, self._thread = tasks, thread
            self._tasks.put(task)
        return task.future

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run the call in this thread and return its result, or raise its error. Waits as `wait` does."""
        return function(*args) if self.is_current else self.wait(self.submit(function, *args))

    def wait(self, future: _Future, unless: _Future | None = None) -> Any:
        """The result of a submitted task; None if ``unless`` is done first. A long wait is logged.

        Ctrl-C ends the wait and not the task: no thread can be interrupted.
        """
        started, limit = time.monotonic(), _REPORT_SECONDS
        others = [] if unless is None else [unless]
        while not futures.wait([future, *others], limit, futures.FIRST_COMPLETED).done:
            waited = time.monotonic() - started
            logger.warning(
                "the Sequence has kept its caller waiting for %.0f s (building it, len(), a hook or pickling); it is "
                "here: %s",
                waited,
                describe_stack(self._thread) if self._thread is not None else "(not known)",
            )
            limit = waited
        return future.result() if future.done() else None

    def end(self) -> None:
        """End the thread after the tasks submitted so far. Returns at once."""
        with self._lock:
            tasks, self._tasks = self._tasks, None
        if tasks is not None:
            tasks.put(None)

    @property
    def is_running(self) -> bool:
        """Whether the thread has begun, and `end` was not called since."""
        return self._tasks is not None

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in this thread."""
        return threading.current_thread() is self._thread

    def __del__(self) -> None:
        if hasattr(self, "_tasks"):
            self.end()


class _Task:
    """One call, and the future of its result."""

    __slots__ = ("_args", "_function", "future")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self.future: _Future = futures.Future()

    def run(self) -> None:
        try:
            result = self._function(*self._args)
        except BaseException as error:
            # Also SystemExit and KeyboardInterrupt of user code: the caller gets them.
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


def _run_tasks(tasks: queue.SimpleQueue[_Task | None]) -> None:
    """The thread. It holds no reference to the `HookThread`, so an abandoned one is collected and ends it."""
    while (task := tasks.get()) is not None:
        task.run()
        del task  # an idle thread must not keep a session alive


class SessionTasks:
    """The tasks of one session in the hook thread. An error of a task is also passed to ``on_error``."""

    def __init__(self, thread: HookThread, on_error: Callable[[BaseException], None]) -> None:
        self._thread = thread
        self._on_error = on_error
        # Set by `stop`, in any thread, before it reads ``_idle``; a task clears ``_idle`` before it reads this.
        self._stopping = False
        self._idle = threading.Event()
        self._idle.set()
        self._stopped: _Future = futures.Future()
        self._is_abandoned = False

    def submit(self, task: Callable[[int], None], epoch: int) -> None:
        """Run the task with this epoch, after all tasks submitted before. Callable from any thread."""
        self.begin(task, epoch)

    def begin(self, task: Callable[[int], None], epoch: int) -> _Future:
        """Submit a task; returns its future, for `wait`."""
        return self._thread.submit(self._run, task, epoch)

    def wait(self, future: _Future) -> None:
        """Wait for a submitted task, or for `stop`; raises the task's error. In the hook thread it does nothing.

        After a Ctrl-C in the wait, `join` does not wait for the task either.
        """
        if self.is_current:
            return
        try:
            self._thread.wait(future, self._stopped)
        finally:
            self._is_abandoned = not future.done()

    def stop(self) -> None:
        """Skip tasks that have not begun. Returns at once; may be called again."""
        self._stopping = True
        if not self._stopped.done():
            self._stopped.set_result(None)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in the hook thread."""
        return self._thread.is_current

    def join(self, timeout: float) -> bool:
        """After `stop`: wait for the running task; True once it has ended, and in the hook thread itself."""
        return self.is_current or self._is_abandoned or self._idle.wait(timeout)

    def _run(self, task: Callable[[int], None], epoch: int) -> None:
        self._idle.clear()
        try:
            if not self._stopping:
                task(epoch)
        except BaseException as error:
            self._on_error(error)
            raise
        finally:
            self._idle.set()
