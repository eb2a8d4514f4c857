"""The trainer's own worker threads: to the core one worker with a slot for each thread.

    I/O thread ── handle(Grant) ──► tasks ──► threads ── results, failures ──► core
                                      watch ── a thread took too long: a substitute starts ──► core

The threads index the caller's own object and hand batches over by reference. Their worker is never lost: a thread stuck
in a user's call is left alone, and a substitute takes its slot.

A lease is answered once, by its thread or by the watch that gave the thread up: by the first to remove the lease's
entry from ``_computing``, which is atomic.
"""

from __future__ import annotations

import itertools
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from enqueuer.compute.context import enter_worker
from enqueuer.compute.item import compute_item
from enqueuer.compute.overdue import OverdueWatch, describe_stack
from enqueuer.core.events import ControlReceived, Event, ResultsReceived, Route, ThreadsJoined, ThreadTimedOut
from enqueuer.protocol.messages import Failure, Grant, Message
from enqueuer.protocol.results_codec import BuiltPayload
from enqueuer.runtime.outcomes import InPlaceError, weigh

ROUTE = Route("threads", b"")
# Enough for idle threads to end; `join` does not wait for a thread inside a user's call.
_JOIN_SECONDS = 0.2
# A larger number is a typing error, and would take the system's last thread.
_MOST_THREADS = 10_000

# Instance, epoch, generation, lease, index. A plain tuple, since one is made for every batch.
_Task = tuple[Any, int, int, int, int]


class _Thread(threading.Thread):
    """One worker thread. Its number is its slot's; a substitute takes it over."""

    def __init__(self, number: int, run: Callable[[_Thread], None]) -> None:
        super().__init__(target=run, args=(self,), name=f"enqueuer-worker-{number}", daemon=True)
        self.number = number


class LocalThreads:
    """``count`` threads, from `start` to `stop`.

    ``get_instance(epoch)`` returns the object to index in that epoch; it is called in the I/O thread. A thread that
    computes one batch for longer than ``batch_timeout`` seconds is replaced and reported to the core; its answer, if it
    comes, is dropped.
    """

    def __init__(
        self,
        count: int,
        session: bytes,
        seed: int,
        get_instance: Callable[[int], Any],
        worker_init: Callable[[], Any] | None,
        post: Callable[[Event], None],
        on_error: Callable[[BaseException], None],
        *,
        batch_timeout: float | None = None,
    ) -> None:
        self._session = session
        self._seed = seed
        self._get_instance = get_instance
        self._worker_init = worker_init
        self._post = post
        self._on_error = on_error
        self._incarnation = os.urandom(16)
        self._host = socket.gethostname()
        self._numbers = itertools.count(1)
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        # By lease: the thread and its running task.
        self._computing: dict[int, tuple[_Thread, _Task]] = {}
        self._count = count
        self._threads: list[_Thread] = []
        self._stopping = False
        # An entry ends the watch. This queue and the lock are reentrant: the garbage collector may run a finalizer, and
        # so `stop`, in the watch's own thread.
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        # Held while ``_threads`` changes.
        self._replacing = threading.RLock()
        self._overdue: OverdueWatch[int] = OverdueWatch(batch_timeout)
        self._watcher = None if batch_timeout is None else threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Start the threads and report them to the core, which may call `handle` from then on.

        Raises ValueError for more threads than any system has, and RuntimeError if this one has no more; `stop` ends
        those that were started.
        """
        if self._count > _MOST_THREADS:
            raise ValueError(
                f"workers must be at most {_MOST_THREADS}, not {self._count}: they are threads of this process"
            )
        for number in range(self._count):
            try:
                self._start_one(number)
            except RuntimeError as error:
                raise RuntimeError(
                    f"worker thread {number + 1} of {self._count} cannot be started, {error}: the system has no more "
                    "threads for this user (`ulimit -u`); call start() with fewer workers"
                ) from error
        if self._watcher is not None:
            self._watcher.name = "enqueuer-watch"
            self._watcher.start()
        self._post(ThreadsJoined(ROUTE, self._incarnation, self._host, os.getpid(), len(self._threads)))

    def _start_one(self, number: int) -> None:
        thread = _Thread(number, self._run)
        thread.start()
        self._threads.append(thread)

    def handle(self, message: Message) -> None:
        """Take a message of the core to these threads. Called in the I/O thread."""
        if isinstance(message, Grant):
            instance = self._get_instance(message.epoch)
            for lease, index in enumerate(message.indices, message.first_lease):
                self._tasks.put((instance, message.epoch, message.generation, lease, index))

    def stop(self) -> None:
        """Begin no more items. Returns at once; a thread inside a user's call ends after that item."""
        self._stopping = True
        self._ended.put(None)
        # Under the lock every thread, also a substitute, gets its entry.
        with self._replacing:
            for _ in self._threads:
                self._tasks.put(None)

    def join(self) -> None:
        """Wait for the threads that are not inside a user's call."""
        deadline = time.monotonic() + _JOIN_SECONDS
        busy = self.busy()
        waited_for: list[threading.Thread] = [thread for thread in self._threads if thread not in busy]
        if self._watcher is not None and self._watcher.ident is not None:
            waited_for.append(self._watcher)
        for thread in waited_for:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def busy(self) -> list[threading.Thread]:
        """The threads inside a user's call, apart from those that a substitute has replaced."""
        return [thread for thread, _ in self._computing.copy().values()]

    # ------------------------------------------------------------ in the threads

    def _run(self, me: _Thread) -> None:
        enter_worker(f"thread-{me.number}", me.number, self._host)
        try:
            if self._worker_init is not None:
                self._worker_init()
        except BaseException as error:
            self._on_error(error)
            return
        while (task := self._tasks.get()) is not None and not self._stopping:
            if not self._serve(task, me):
                return
            del task  # an idle thread must not keep the Sequence alive

    def _serve(self, task: _Task, me: _Thread) -> bool:
        """Compute the task and answer its lease; False if that took so long that a substitute has taken the slot."""
        instance, epoch, generation, lease, index = task
        self._computing[lease] = me, task
        started = time.monotonic()
        try:
            batch = compute_item(instance, index, seed=self._seed, epoch=epoch)
        except BaseException as error:
            failure = Failure(epoch, generation, lease, InPlaceError.of(error))
            if self._computing.pop(lease, None) is None:
                return False
            self._post(ControlReceived(ROUTE, self._session, failure))
            return True
        busy = time.monotonic() - started
        nbytes = weigh(batch)
        if self._computing.pop(lease, None) is None:
            return False
        # Numbered here, where it is sure to be sent: the core would wait for a number that never comes.
        number, payload = next(self._numbers), BuiltPayload(batch, nbytes)
        self._post(ResultsReceived(self._incarnation, epoch, generation, number, busy, (lease,), (payload,), nbytes))
        return True

    # ------------------------------------------------------------ the watch

    def _watch(self) -> None:
        try:
            while not self._has_ended(self._overdue.interval):
                for lease in self._overdue.look(self._computing.copy(), time.monotonic()):
                    self._replace(lease)
        except BaseException as error:
            # Perhaps no substitute could be started: leases of its slot would never be answered.
            self._on_error(error)

    def _has_ended(self, timeout: float) -> bool:
        try:
            self._ended.get(timeout=timeout)
        except queue.Empty:
            return False
        return True

    def _replace(self, lease: int) -> None:
        """Give the slot of the thread that computes this lease to a substitute, unless it has just finished."""
        computing = self._computing.get(lease)
        if computing is None:
            return
        thread, (_, epoch, generation, _, _) = computing
        stack = describe_stack(thread)
        with self._replacing:
            if self._stopping or self._computing.pop(lease, None) is None:
                return
            self._threads.remove(thread)
            self._start_one(thread.number)
            if self._stopping:
                self._tasks.put(None)  # `stop`, in a finalizer, may have missed the substitute
        self._post(ThreadTimedOut(self._incarnation, epoch, generation, lease, stack))
