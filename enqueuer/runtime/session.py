"""A session, from ``start()`` to ``stop()``: makes the threads, sockets and processes, ties them together, ends them.

    consumers ◄── ReadyQueue ◄── IoLoop ◄──► local threads, local processes, remote workers
                      │            ▲ └──► Coordinator (pure)
     epoch taken, epoch wanted     │ epochs to compute
                      ▼            │
                  HookThread ──► EpochKeeper

One batch's journey: the keeper opens its epoch (hook thread). The core grants a lease on its position, and the loop
sends it (I/O thread). A local thread, or a worker process, computes it. The loop receives the result, the core puts it
in order, and the ready queue gets it (I/O thread). A consumer takes it from the queue and builds the batch.

Owners: the I/O thread alone uses the core and the sockets. The hook thread alone calls the user's object, apart from
the items that local threads compute. The ready queue has a lock. `stop` may run in any thread; a lock lets one thread
at a time take the session apart.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from enqueuer.compute.error_records import rebuild_error
from enqueuer.compute.spec import import_target
from enqueuer.core.actions import BatchFailed, BatchSkipped, FleetFailed
from enqueuer.core.coordinator import Coordinator
from enqueuer.core.events import EpochEndRequested, StopRequested, SupervisorDied
from enqueuer.core.verdict import Verdict
from enqueuer.errors import NoWorkersError, SequenceError
from enqueuer.host import usable_cpus
from enqueuer.memory.buffer_pool import pool
from enqueuer.monitoring.run_page.report import Report, describe_failure
from enqueuer.monitoring.stats import Stats
from enqueuer.protocol.messages import ID_BYTES, Message
from enqueuer.protocol.results_codec import BuiltPayload
from enqueuer.runtime.bookmark import Bookmark
from enqueuer.runtime.channels import Channel, PrivateDirectory, bind_local, bind_remote
from enqueuer.runtime.epochs import EpochKeeper
from enqueuer.runtime.hook_thread import SessionTasks
from enqueuer.runtime.io_loop import IoLoop
from enqueuer.runtime.iteration import StreamEnd
from enqueuer.runtime.left_out import LeftOut
from enqueuer.runtime.local_processes import LocalProcesses, Surroundings
from enqueuer.runtime.local_threads import LocalThreads
from enqueuer.runtime.outcomes import build_batch, build_error
from enqueuer.runtime.ready_queue import End, ReadyQueue
from enqueuer.runtime.sent_states import Placement
from enqueuer.runtime.session_facts import session_facts
from enqueuer.runtime.views import Views
from enqueuer.transport.sockets import io_threads_for, new_context

logger = logging.getLogger("enqueuer")

_SECRET_BYTES = 32


class Session:
    """A session with workers. ``start()`` makes it; it runs at once, and never again after `stop`.

    ``bookmark`` has the Sequence, the options and the beginning. ``processes`` is the enqueuer's local supervisor, used
    only if ``local_processes`` is above 0.
    """

    def __init__(
        self,
        bookmark: Bookmark,
        *,
        threads: int,
        local_processes: int,
        max_queue_size: int | None,
        processes: LocalProcesses,
    ) -> None:
        self.bookmark = bookmark
        self.options = options = bookmark.options
        self.seed = bookmark.seed
        # Before any user code runs: it may change all of it.
        self._surroundings = Surroundings.now()
        # Looked up and tried while nothing is open, since it may fail.
        thread_init = self._thread_init() if threads else None
        report = None if options.report is None else Report(options.report)
        self._failure = ""
        self._processes = processes if local_processes else None
        self._stop_lock = threading.Lock()
        self._stopper = 0
        self._stopped = threading.Event()
        self._directory = PrivateDirectory() if local_processes else None
        self._context = new_context(1 if options.bind is None else io_threads_for(usable_cpus()))
        self._threads: LocalThreads | None = None
        self._left_out = LeftOut()
        self._secret = os.urandom(_SECRET_BYTES)
        channels = self._bind()
        self.facts = session_facts(os.urandom(ID_BYTES), bookmark, channels, max_queue_size)
        self.coordinator = Coordinator(options, self.facts, time.monotonic())
        # These objects need each other: a lambda looks up one that is made below it.
        self.ready = ReadyQueue(
            bookmark.first_epoch,
            wake=lambda: self.io.wake(),
            epoch_taken=lambda epoch: self._hooks.submit(self._keeper.taken, epoch),
            epoch_wanted=lambda epoch: self._hooks.submit(self._keeper.wanted, epoch),
        )
        self._hooks = SessionTasks(bookmark.own.source.hook_thread, self.ready.fail)
        self.io = IoLoop(
            self.coordinator,
            self._context,
            channels,
            self.ready,
            in_process=self._send_to_threads,
            on_exhausted=lambda epoch: self._hooks.submit(self._keeper.exhausted, epoch),
            on_ended=lambda epoch: self._hooks.submit(self._run_early_hook, epoch),
            on_fleet_failed=self._fleet_failed,
            on_failure=self.ready.fail,
            on_turn=lambda now: self._views.look(now),
            make_snapshot=lambda show: self._views.show(show),
        )
        self._views = Views(self.coordinator, self.ready, self.io, self._stopped, report)
        placement = Placement(threads > 0, local_processes > 0, options.bind is not None, options.key_file is not None)
        directory = self._directory.path if self._directory is not None else Path(tempfile.gettempdir())
        self._keeper = EpochKeeper(bookmark, placement, directory, self.io.post, self.ready.set_length)
        bookmark.follow(self.ready.received)
        bookmark.own.source.begin_session(self)
        self._begin(channels, threads, local_processes, thread_init)

    # ------------------------------------------------------------ starting

    def _begin(
        self,
        channels: list[Channel],
        threads: int,
        local_processes: int,
        thread_init: Callable[[], Any] | None,
    ) -> None:
        """Start everything. If that fails or is interrupted, nothing is left behind."""
        try:
            self._views.open()
            self.io.start()
            self._views.begin(self.options.metrics_port)
            self._opening = self._hooks.begin(self._keeper.open, self.bookmark.first_epoch)
            if threads:
                self._threads = LocalThreads(
                    threads,
                    self.facts.session,
                    self.seed,
                    self._keeper.instance,
                    thread_init,
                    self.io.post,
                    self.ready.fail,
                    batch_timeout=self.options.batch_timeout,
                )
                # After `_threads` is set: the I/O thread runs, and may have a grant for them at once.
                self._threads.start()
            if local_processes:
                self._start_processes(channels, local_processes)
        except BaseException:
            self.stop(self.options.timing.stop)
            raise

    def wait_until_open(self) -> None:
        """Wait until the first epoch is open, or the session is stopped.

        Raises what keeps the epoch from opening: the errors of building the Sequence, of its ``len()``, of pickling it.
        In the hook thread (``start()`` in ``on_epoch_end``) it does not wait; there `next_batch` raises them.
        """
        self._hooks.wait(self._opening)

    def _bind(self) -> list[Channel]:
        """Bind the local channel, in a private directory, and the remote one, at the caller's address."""
        options, channels = self.options, []
        self.endpoint: str | None = None
        try:
            if self._directory is not None:
                memory = options.shared_memory
                channels.append(bind_local(self._context, self._directory, self._secret, shared_memory=memory))
            if options.bind is not None:
                channels.append(bind_remote(self._context, options.bind, options))
                self.endpoint = channels[-1].sockets.control_endpoint
        except BaseException:
            for channel in channels:
                channel.close()
            self._context.term()
            if self._directory is not None:
                self._directory.remove()
            raise
        return channels

    def _send_to_threads(self, message: Message) -> None:
        if self._threads is not None:
            self._threads.handle(message)

    def _thread_init(self) -> Callable[[], Any] | None:
        init = self.options.worker_init
        return import_target(init) if isinstance(init, str) else init

    def _start_processes(self, channels: list[Channel], count: int) -> None:
        assert self._processes is not None
        self._processes.attach(
            connect=channels[0].sockets.control_endpoint,
            secret=self._secret,
            processes=count,
            surroundings=self._surroundings,
            watch=self.io.watch,
            on_death=lambda supervisor: self.io.post(SupervisorDied(supervisor)),
            on_hopeless=lambda reason: self._fleet_failed(FleetFailed(reason)),
        )

    # ------------------------------------------------------------ the stream

    def next_batch(self, only_epoch: int | None = None) -> Any:
        """Return the next batch that is not None. Waits for it as long as the session lives.

        Raises `StreamEnd` after `stop` and, with ``only_epoch``, once that epoch is over; in a failed batch's place the
        Sequence's own exception, or a `SequenceError`; and the error that ended the session.
        """
        while True:
            outcome = self.ready.take(only_epoch)
            kind = type(outcome)
            if kind is BuiltPayload:
                batch = outcome.batch
            elif kind is End:
                raise StreamEnd
            elif kind is BatchSkipped:
                continue
            elif kind is BatchFailed:
                raise build_error(outcome)
            else:
                batch = self._build(outcome)
            if batch is not None:
                return batch
            epoch, taken, length, _ = self.ready.progress
            self._left_out.note(epoch, taken, length, self.ready.taken_total)

    def _build(self, payload: Any) -> Any:
        try:
            return build_batch(payload)
        except SequenceError:
            self.ready.take_back()
            raise
        except BaseException:
            # Mostly a Ctrl-C in the middle of a large batch: the batch is the next one again.
            self.ready.put_back(payload)
            raise

    @property
    def next_epoch(self) -> int:
        """The epoch of the next batch."""
        return self.ready.next_epoch

    @property
    def epoch(self) -> int:
        """The epoch of the batch taken last; before that, the first one."""
        return self.ready.progress[0]

    @property
    def taken_total(self) -> int:
        """The number of batches, skips and errors that the trainer has taken."""
        return self.ready.taken_total

    def raise_failure(self) -> None:
        """Raise the error that ended the session, if any. `next_batch` raises it too, after the ready batches."""
        self.ready.raise_failure()

    def note_failure(self, error: BaseException) -> None:
        """Note the error that ends the session, for its report."""
        self._failure = describe_failure(error)

    def _fleet_failed(self, failed: FleetFailed) -> None:
        record = failed.error
        if record is None:
            self.ready.fail(NoWorkersError(failed.reason))
        else:
            epoch, _, _, _ = self.ready.progress
            self.ready.fail(rebuild_error(record, index=None, epoch=epoch, worker=None, host=None, trust_local=True))

    def end_epoch(self, epoch: int, *, leave_rest: bool = False) -> None:
        """End this epoch now, if the stream is in the middle of it: its rest is dropped, and ``on_epoch_end`` runs.

        The next batch is the next epoch's first one or, with ``leave_rest`` and then `go_on`, the first of the rest, in
        the next epoch. Waits for the hook; its error comes out of the next `next_batch`.
        """
        received = self.ready.end_epoch(epoch)
        if received is None:
            return
        if leave_rest:
            self.bookmark.note_rest(epoch, received)
        self.io.post(EpochEndRequested(epoch))
        if not self._hooks.is_current:
            self.ready.wait_for_hook(epoch)

    def go_on(self) -> None:
        """Have the next epoch begin with the rest that the last `end_epoch` left, if the length is still the same."""
        self.bookmark.go_on(self.next_epoch)

    def _run_early_hook(self, epoch: int) -> None:
        try:
            self._keeper.ended_early(epoch)
        finally:
            self.ready.note_hook_done(epoch)

    # ------------------------------------------------------------ asking

    @property
    def workers_count(self) -> int:
        """The number of workers (slots) that serve now."""
        return self.coordinator.slots_count

    @property
    def refusals(self) -> str:
        """Workers that came and were refused, by reason; '' if there was none."""
        return self.coordinator.refusals

    def stats(self) -> Stats:
        """A snapshot, taken in the I/O thread, or here after its end. While that thread hangs: the last snapshot."""
        return self._views.stats()

    def begin_probe(self) -> None:
        """Judge nothing until `end_probe`: the trainer takes batches from memory."""
        self._views.begin_probe()

    def end_probe(self, rate: float | None) -> None:
        """Judge again, and by this rate, in batches a second that the trainer takes from memory; None: not measured."""
        self._views.end_probe(rate)

    @property
    def verdict(self) -> Verdict:
        """The verdict on what holds the training back now, at most a second old."""
        return self._views.verdict

    def peek(self) -> Any:
        """Return the next batch that is not None and leave it the next one; do not change what is in it.

        Waits and raises as `next_batch`. For a single consumer.
        """
        while True:
            outcome = self.ready.take()
            kind = type(outcome)
            if kind is End:
                raise StreamEnd
            if kind is BatchSkipped:
                continue
            if kind is BatchFailed:
                raise build_error(outcome)
            try:
                batch = build_batch(outcome)
            finally:
                self.ready.put_back(outcome)
            if batch is not None:
                return batch
            self.ready.take()

    # ------------------------------------------------------------ stopping

    def stop(self, timeout: float) -> bool:
        """End everything; True if nothing was left behind within ``timeout`` seconds.

        May be called again, and from any thread, also from a hook.
        """
        deadline = time.monotonic() + timeout
        # 1. Consumers first: those that wait in next() are released, however long the rest takes.
        self.ready.close()
        if not self._stop_lock.acquire(blocking=False):
            # Another thread is stopping the session, or this one, further up its stack (a user's signal handler).
            return self._stopped.wait(0 if self._is_waited_for() else timeout)
        self._stopper = threading.get_ident()
        try:
            if self._stopped.is_set():
                return True
            # 2. No new hook and no new item begins. A user's call that runs cannot be interrupted.
            self._hooks.stop()
            if self._threads is not None:
                self._threads.stop()
            self._views.end(timeout)
            # 3. The I/O thread tells every worker Stop while its sockets are still there, then closes them.
            self.io.post(StopRequested())
            done = self.io.join(max(0.0, deadline - time.monotonic()))
            if done:
                self._views.close()
            # 4. Local processes, which have their Stop by now, end when their stdin closes.
            if self._processes is not None and not self.options.persistent_workers:
                self._processes.stop(max(0.1, deadline - time.monotonic()))
            if self._threads is not None:
                self._threads.join()
            done = self._hooks.join(max(0.0, min(deadline - time.monotonic(), timeout))) and done
            late_threads = [] if self._threads is None else self._threads.busy()
            self.bookmark.own.source.end_session(self, late_threads)
            # 5. The segments and the sockets' directory last: no process maps or uses them any more.
            self._keeper.close()
            pool.clear()
            if self._directory is not None:
                self._directory.remove()
            self._views.write_report(self._failure)
            self._stopped.set()
            if not done and timeout > 0:  # with no time to wait, a hook that runs is no news
                logger.warning(
                    "stop() has waited %g s for a call of yours, such as on_epoch_end; it ends by itself", timeout
                )
            return done
        finally:
            self._stop_lock.release()

    def let_go(self, timeout: float) -> None:
        """After `stop`: keep the progress in the stream alone."""
        self.bookmark.freeze(timeout)

    def _is_waited_for(self) -> bool:
        """Whether the stopping thread waits for the caller's thread, or is it: waiting for it would be a deadlock."""
        return threading.get_ident() == self._stopper or self._hooks.is_current or self.io.is_current

    def disarm(self) -> None:
        """In a forked child: end the stream, and leave sockets and processes alone, which are the parent's."""
        self.ready = ReadyQueue(0, wake=_nothing, epoch_taken=_nothing, epoch_wanted=_nothing)
        self.ready.close()
        self._views.disarm()
        self._stopped.set()


def _nothing(*_: Any) -> None:
    """The callbacks of a disarmed session."""
