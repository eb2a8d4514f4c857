"""One ``start()`` … ``stop()``: puts the threads, sockets and processes together, and takes them apart again.

consumer threads ◄── ReadyQueue ◄── IoLoop ──► Coordinator (pure)
HookThread ──► EpochKeeper ──events──► IoLoop ◄──► local threads, local processes, remote workers
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np

from enqueuer.compute.error_records import rebuild_error
from enqueuer.compute.spec import import_target
from enqueuer.core.actions import BatchFailed, BatchSkipped, FleetFailed
from enqueuer.core.coordinator import Coordinator
from enqueuer.core.events import StopRequested, SupervisorDied
from enqueuer.core.settings import ChannelFacts, SessionFacts
from enqueuer.errors import NoWorkersError, SequenceError
from enqueuer.host import total_bytes, usable_cpus
from enqueuer.memory.buffer_pool import pool
from enqueuer.monitoring.health import DIRECTORY_VARIABLE, HealthSocket, Status, open_health_socket
from enqueuer.monitoring.stats import Stats
from enqueuer.options import AUTO, QueueSize
from enqueuer.protocol.batch import Trust
from enqueuer.protocol.messages import ID_BYTES
from enqueuer.protocol.results_codec import BuiltPayload
from enqueuer.runtime.bookmark import Bookmark
from enqueuer.runtime.channels import Channel, PrivateDirectory, bind_local, bind_remote
from enqueuer.runtime.epochs import EpochKeeper, Placement
from enqueuer.runtime.hook_thread import HookThread
from enqueuer.runtime.io_loop import IoLoop
from enqueuer.runtime.iteration import StreamEnd
from enqueuer.runtime.local_processes import LocalProcesses
from enqueuer.runtime.local_threads import LocalThreads
from enqueuer.runtime.outcomes import build_batch, build_error
from enqueuer.runtime.ready_queue import End, ReadyQueue
from enqueuer.runtime.stats import take_snapshot
from enqueuer.transport.sockets import io_threads_for, new_context

logger = logging.getLogger("enqueuer")

_SECRET_BYTES = 32
# Of the machine's memory, for undelivered batches: what an automatic depth keeps to unless it is told otherwise.
_AUTO_MEMORY = 1 / 8
_CALL_SECONDS = 5.0


class Session:
    """A running distribution of one Sequence. Made by ``start()``; never started twice.

    ``bookmark`` has the Sequence, the options and where to begin; ``processes`` is the enqueuer's local supervisor,
    used only where ``local_processes`` > 0.
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
        # First of all, since it may fail.
        thread_init = self._thread_init() if threads else None
        self._processes = processes if local_processes else None
        self._stop_lock = threading.Lock()
        self._stopper = 0
        self._stopped = threading.Event()
        self._directory = PrivateDirectory() if local_processes else None
        self._health: HealthSocket | None = None
        self._context = new_context(1 if options.bind is None else io_threads_for(usable_cpus()))
        self._threads: LocalThreads | None = None
        self._last_stats = Stats()
        self._secret = os.urandom(_SECRET_BYTES)
        channels = self._bind()
        self.facts = self._session_facts(channels, max_queue_size)
        self.coordinator = Coordinator(options, self.facts, time.monotonic())
        self._hooks = HookThread("enqueuer-hooks", self._fail)
        self.ready = ReadyQueue(
            bookmark.first_epoch,
            wake=lambda: self.io.wake(),
            epoch_taken=lambda epoch: self._hooks.submit(lambda: self._keeper.taken(epoch)),
            epoch_wanted=lambda epoch: self._hooks.submit(lambda: self._keeper.wanted(epoch)),
        )
        self.io = IoLoop(
            self.coordinator,
            self._context,
            channels,
            self.ready,
            in_process=lambda message: self._threads.handle(message) if self._threads else None,
            on_exhausted=lambda epoch: self._hooks.submit(lambda: self._keeper.exhausted(epoch)),
            on_fleet_failed=self._fleet_failed,
            on_failure=self._fail,
        )
        placement = Placement(threads > 0, local_processes > 0, options.bind is not None, options.key_file is not None)
        directory = self._directory.path if self._directory is not None else Path(tempfile.gettempdir())
        self._keeper = EpochKeeper(bookmark, placement, directory, self.io.post, self.ready.set_length)
        bookmark.follow(self.ready.received)
        self._begin(channels, threads, local_processes, thread_init)

    # ------------------------------------------------------------ starting

    def _begin(
        self,
        channels: list[Channel],
        threads: int,
        local_processes: int,
        thread_init: Callable[[], Any] | None,
    ) -> None:
        """Set everything going; if that fails or is interrupted, nothing stays behind."""
        try:
            self.io.start()
            self._health = open_health_socket(os.environ.get(DIRECTORY_VARIABLE))
            if self._health is not None:
                self.io.call(self._answer_health)
            self._hooks.start()
            self._hooks.submit(lambda: self._keeper.open(self.bookmark.first_epoch))
            if threads:
                self._threads = LocalThreads(
                    threads,
                    self.facts.session,
                    self.seed,
                    self._keeper.instance,
                    thread_init,
                    self.io.post,
                    self._fail,
                    batch_timeout=self.options.batch_timeout,
                )
                # Not before `_threads` is set: the I/O thread, which runs, could have a grant for them at once.
                self._threads.start()
            if local_processes:
                self._start_processes(channels, local_processes)
        except BaseException:
            self.stop(self.options.timing.stop)
            raise

    def _bind(self) -> list[Channel]:
        """The local channel in a private directory, and the remote one where the caller said."""
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

    def _session_facts(self, channels: list[Channel], max_queue_size: int | None) -> SessionFacts:
        max_bytes = self.options.max_bytes
        if max_bytes is None and max_queue_size is None:
            # Nothing else would hold an automatic depth back behind a batch that hangs.
            max_bytes = int(_AUTO_MEMORY * total_bytes())
        return SessionFacts(
            session=os.urandom(ID_BYTES),
            channels=tuple(self._channel_facts(channel) for channel in channels),
            numpy_version=np.__version__,
            max_queue_size=max_queue_size,
            max_bytes=max_bytes,
            skipped_before=self.bookmark.skipped_before,
            address=self.endpoint or "",
        )

    def _channel_facts(self, channel: Channel) -> ChannelFacts:
        local, slabs = channel.trust is Trust.LOCAL, channel.slabs
        # A worker elsewhere is told a name, not where to connect to.
        shared = (str(slabs.path) if local else slabs.path.name, slabs.secret) if slabs is not None else None
        compression = None if channel.codec is None else self.options.compression
        return ChannelFacts(channel.name, self._data_endpoint(channel), local, shared, compression)

    def _data_endpoint(self, channel: Channel) -> str:
        """As workers see it: what the caller advertises, else our port on the host that they connected to."""
        endpoint = channel.sockets.data_endpoint
        if channel.trust is Trust.LOCAL:
            return endpoint
        if self.options.advertise is not None:
            host, _, port = self.options.advertise.rpartition(":")
            return f"{host}:{endpoint.rpartition(':')[2]}" if port in ("*", "0") else self.options.advertise
        return f"tcp://*:{endpoint.rpartition(':')[2]}"

    def _thread_init(self) -> Callable[[], Any] | None:
        init = self.options.worker_init
        return import_target(init) if isinstance(init, str) else init

    def _start_processes(self, channels: list[Channel], count: int) -> None:
        assert self._processes is not None
        self._processes.attach(
            connect=channels[0].sockets.control_endpoint,
            secret=self._secret,
            processes=count,
            watch=self.io.watch,
            on_death=lambda supervisor: self.io.post(SupervisorDied(supervisor)),
            on_hopeless=lambda reason: self._fleet_failed(FleetFailed(reason)),
        )

    # ------------------------------------------------------------ the stream

    def next_batch(self, only_epoch: int | None = None) -> Any:
        """The next batch that is not None. Waits for it as long as the session lives.

        Raises `StreamEnd` after `stop` and, with ``only_epoch``, once that epoch is over; the Sequence's own
        exception, or a `SequenceError`, in the failed batch's place; and what broke the session.
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

    def _build(self, payload: Any) -> Any:
        try:
            return build_batch(payload)
        except SequenceError:
            self.ready.take_back()
            raise
        except BaseException:
            # A Ctrl-C, as a rule, in the middle of a large batch: it is the next one that is asked for again.
            self.ready.put_back(payload)
            raise

    @property
    def next_epoch(self) -> int:
        return self.ready.next_epoch

    @property
    def epoch(self) -> int:
        """The epoch of the batch that was taken last; before that, the first one."""
        return self.ready.progress[0]

    def raise_failure(self) -> None:
        """Raise what has broken the session, if anything has; `next_batch` will, after what is ready."""
        self.ready.raise_failure()

    def _fail(self, error: BaseException) -> None:
        self.ready.fail(lambda: error)

    def _fleet_failed(self, failed: FleetFailed) -> None:
        record = failed.error
        if record is None:
            self._fail(NoWorkersError(failed.reason))
        else:
            epoch, _, _, _ = self.ready.progress
            self._fail(rebuild_error(record, index=None, epoch=epoch, worker=None, host=None, trust_local=True))

    def open_epochs_on_demand(self) -> None:
        """From the next epoch on, nothing of it is computed before its first batch is asked for, unless it can be
        checked then: what a callback changes between two epochs is in force for the whole of the next one.
        """
        self._keeper.on_demand = True

    # ------------------------------------------------------------ asking

    @property
    def max_queue_size(self) -> QueueSize:
        """As `start` was given it."""
        number = self.facts.max_queue_size
        return AUTO if number is None else number

    @property
    def workers_count(self) -> int:
        """Workers (slots) that serve now."""
        return self.coordinator.slots_count

    def stats(self) -> Stats:
        """A snapshot, taken in the I/O thread while it runs."""
        try:
            self._last_stats = self.io.call(self._snapshot).result(_CALL_SECONDS)
        except futures.CancelledError:
            # The I/O thread has ended, and nobody else touches the core.
            self._last_stats = self._snapshot()
        except futures.TimeoutError:  # not the built-in one before 3.11
            pass  # The I/O thread is kept from running; it alone may look at the core.
        return self._last_stats

    def _snapshot(self) -> Stats:
        running = not self._stopped.is_set()
        return take_snapshot(self.coordinator.state, self.ready, self.io.receiver, running=running)

    def _answer_health(self) -> None:
        """In the I/O thread, which so proves that it turns."""
        assert self._health is not None
        self._health.answer(self._status)
        self.io.watch(self._health.fileno(), self._answer_health)

    def _status(self) -> Status:
        workers, taken = self.workers_count, self.ready.taken_total
        return {"role": "trainer", "workers": workers, "epoch": self.epoch, "taken": taken, "ready": workers > 0}

    # ------------------------------------------------------------ stopping

    def stop(self, timeout: float) -> bool:
        """End everything; True if nothing was left behind within ``timeout`` seconds. May be called again, from any
        thread, also from a hook.
        """
        deadline = time.monotonic() + timeout
        # 1. Consumers first: whoever waits in next() is released, whatever else takes its time.
        self.ready.close()
        if not self._stop_lock.acquire(blocking=False):
            # Another thread is stopping, or this very one further up its stack (a user's signal handler).
            return self._stopped.wait(0 if self._is_waited_for() else timeout)
        self._stopper = threading.get_ident()
        try:
            if self._stopped.is_set():
                return True
            # 2. No new hook and no new item begins; what runs in a user's call cannot be interrupted.
            self._hooks.stop()
            if self._threads is not None:
                self._threads.stop()
            # 3. The I/O thread tells every worker Stop while its sockets are still there, then closes them.
            self.io.post(StopRequested())
            done = self.io.join(max(0.0, deadline - time.monotonic()))
            if done and self._health is not None:
                self._health.close()
            # 4. Local processes end with their stdin; they have had their Stop.
            if self._processes is not None and not self.options.persistent_workers:
                self._processes.stop(max(0.1, deadline - time.monotonic()))
            if self._threads is not None:
                self._threads.join()
            done = self._hooks.join(max(0.0, min(deadline - time.monotonic(), timeout))) and done
            # 5. Nobody maps the segments or uses the ipc directory any more.
            self._keeper.close()
            pool.clear()
            if self._directory is not None:
                self._directory.remove()
            self._stopped.set()
            if not done and timeout > 0:  # who gives no time does not want to know
                logger.warning(
                    "stop() has waited %g s for a call of yours, such as on_epoch_end; it ends by itself", timeout
                )
            return done
        finally:
            self._stop_lock.release()

    def let_go(self, timeout: float) -> None:
        """After `stop`: only the place in the stream stays."""
        self.bookmark.freeze(timeout)

    def _is_waited_for(self) -> bool:
        """Whether who stops this session waits for the very thread that asks."""
        return threading.get_ident() == self._stopper or self._hooks.is_current or self.io.is_current

    def disarm(self) -> None:
        """In a forked child: the threads are not there, and sockets and processes are the parent's."""
        self.ready = ReadyQueue(0, wake=_nothing, epoch_taken=_nothing, epoch_wanted=_nothing)
        self.ready.close()
        if self._health is not None:
            self._health.close()
        self._stopped.set()


def _nothing(*_: Any) -> None:
    """What a disarmed session does."""
