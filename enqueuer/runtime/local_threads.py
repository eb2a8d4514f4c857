"""The trainer's own worker threads: one in-process worker with many slots, a plain queue for a route.

They index the caller's own object and hand batches over by reference. To the core they are a worker like others, except
that they cannot be lost.
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
from enqueuer.core.events import ControlReceived, Event, ResultsReceived, Route, ThreadsJoined
from enqueuer.protocol.messages import Failure, Grant, Message, Revoke
from enqueuer.runtime.outcomes import InPlaceBatch, InPlaceError, weigh

ROUTE = Route("threads", b"")
# A thread inside a user's call is not waited for; an idle one needs about this long to end.
_JOIN_SECONDS = 0.2

_Task = tuple[Any, int, int, int, int]


class LocalThreads:
    """``count`` threads; `handle` takes the core's messages for them, from the I/O thread.

    ``get_instance(epoch)`` is the object to index for that epoch.
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
        self._cancelled: set[int] = set()
        self._stopping = False
        self._busy: set[threading.Thread] = set()
        self._count = count
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads, and tell the core that they are there: from then on, `handle` is called.

        Raises RuntimeError if the system has no more threads; `stop` ends those that were started.
        """
        for number in range(self._count):
            name = f"enqueuer-worker-{number}"
            thread = threading.Thread(target=self._run, args=(number,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        self._post(ThreadsJoined(ROUTE, self._incarnation, self._host, os.getpid(), len(self._threads)))

    def handle(self, message: Message) -> None:
        """Perform what the core sends to this route."""
        if isinstance(message, Grant):
            instance = self._get_instance(message.epoch)
            for lease, index in enumerate(message.indices, message.first_lease):
                self._tasks.put((instance, message.epoch, message.generation, lease, index))
        elif isinstance(message, Revoke):
            self._cancelled.update(message.leases)

    def stop(self) -> None:
        """Begin nothing more. Returns at once; a thread that is inside a user's call ends with that item."""
        self._stopping = True
        for _ in self._threads:
            self._tasks.put(None)

    def join(self) -> None:
        """Wait for the threads that are not inside a user's call."""
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            if thread is not threading.current_thread() and thread not in self._busy:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self, number: int) -> None:
        enter_worker(f"thread-{number}", number, self._host)
        me = threading.current_thread()
        try:
            if self._worker_init is not None:
                self._worker_init()
        except BaseException as error:
            self._on_error(error)
            return
        while (task := self._tasks.get()) is not None and not self._stopping:
            lease = task[3]
            if lease in self._cancelled:
                self._cancelled.discard(lease)
            else:
                self._busy.add(me)
                try:
                    self._compute(task)
                finally:
                    self._busy.discard(me)
            del task  # the Sequence must not live on in an idle thread

    def _compute(self, task: _Task) -> None:
        instance, epoch, generation, lease, index = task
        started = time.monotonic()
        try:
            batch = compute_item(instance, index, seed=self._seed, epoch=epoch, seed_globals=False)
        except BaseException as error:
            failure = Failure(epoch, generation, lease, InPlaceError.of(error))
            self._post(ControlReceived(ROUTE, self._session, failure))
            return
        busy = time.monotonic() - started
        results = ResultsReceived(
            self._incarnation,
            epoch,
            generation,
            next(self._numbers),
            busy,
            (lease,),
            (InPlaceBatch(batch),),
            (weigh(batch),),
        )
        self._post(results)
