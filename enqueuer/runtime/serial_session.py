"""``workers=0`` without ``bind``: each batch is computed in the consumer's own thread, when it is asked for.

The stream is the same as with workers (order, seeds, errors, skips, epochs), without a process or a queue. It is the
plainest way to debug a Sequence, and the baseline for measurements of workers.

A spec's instance is the exception: it belongs to the hook thread, which computes its batches while the consumer waits.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

from enqueuer.compute.item import compute_item
from enqueuer.compute.sequence_checks import is_shuffled
from enqueuer.core.actions import BatchFailed, BatchSkipped
from enqueuer.core.verdict import Verdict, judge
from enqueuer.core.window import Window
from enqueuer.monitoring.stats import Stats
from enqueuer.runtime.bookmark import Bookmark
from enqueuer.runtime.iteration import StreamEnd
from enqueuer.runtime.left_out import LeftOut
from enqueuer.runtime.outcomes import InPlaceError, build_error
from enqueuer.runtime.receipts import Received
from enqueuer.runtime.stream_times import StreamTimes
from enqueuer.stream.plan import EpochPlan
from enqueuer.stream.ranges import Ranges

logger = logging.getLogger("enqueuer")


class SerialSession:
    """A session without workers, with the interface of `Session` as far as the public class and adapters use it.

    Any thread may call any method; one consumer at a time computes, under the lock.
    """

    endpoint: str | None = None
    workers_count = 0
    refusals = ""

    def __init__(self, bookmark: Bookmark) -> None:
        self.bookmark = bookmark
        self.options = bookmark.options
        self.seed = bookmark.seed
        self._own = bookmark.own
        # Reentrant: on_epoch_end may call stop().
        self._lock = threading.RLock()
        self._stopped = False
        self._epoch = bookmark.first_epoch
        self._order: Sequence[int] = ()
        self._instance: Any = None
        self._opened = False
        # Whether on_epoch_end of the open epoch has run.
        self._ended = False
        self._hook_error: Exception | None = None
        self._retries_count = 0
        self._taken_total = 0
        self._position = 0
        self._skipped: list[tuple[int, int]] = []
        self._left_out = LeftOut()
        # Epoch, position and number of skips. Replaced as a whole: other threads read it without the lock.
        self._progress = (self._epoch, 0, 0)
        # A call in the hook thread whose consumer was interrupted while it waited.
        self._unfinished: futures.Future[Any] | None = None
        self._own.source.begin_session(self)
        if self.options.metrics_port is not None:
            logger.warning("metrics_port has no effect with workers=0 and without bind")
        if self.options.report is not None:
            logger.warning("report has no effect with workers=0 and without bind")
        # All of `next_batch` is a wait.
        self._times = StreamTimes()
        bookmark.follow(self._get_received)

    def next_batch(self, only_epoch: int | None = None) -> Any:
        """Compute and return the next batch that is not None.

        Raises `StreamEnd` after `stop` and, with ``only_epoch``, once that epoch is over; in a failed batch's place the
        Sequence's own exception, or a `SequenceError`.

        ``on_epoch_end`` runs at the first call after the epoch's last batch: a call for the next epoch's first batch,
        or with ``only_epoch`` the call that raises StreamEnd.
        """
        with self._lock, self._times.waiting():
            self._finish_call()
            while True:
                if self._stopped:
                    raise StreamEnd
                if only_epoch is not None and self.next_epoch > only_epoch:
                    if self._opened and self._epoch == only_epoch and self._hook_error is None:
                        self._call(self._end_epoch_alone)
                    raise StreamEnd
                if not self._opened or self._position == len(self._order):
                    self._call(self._enter_epoch)
                    continue
                index = self._order[self._position]
                batch = self._call(self._compute, index)
                # Counted after the computation: a Ctrl-C in the middle of it loses no batch.
                self._position += 1
                self._taken_total += 1
                if self._taken_total == 1:
                    self._times.note_first_batch()
                is_skipped = type(batch) is BatchSkipped
                if is_skipped:
                    self._skipped.append((self._epoch, index))
                self._progress = (self._epoch, self._position, len(self._skipped))
                if batch is not None and not is_skipped:
                    return batch
                if not is_skipped:
                    self._left_out.note(self._epoch, self._position, len(self._order), self._taken_total)

    def wait_until_open(self) -> None:
        """Raise the errors of the Sequence that are known before its first batch. The epoch opens at that."""
        with self._lock:
            self._call(self._read)

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call where the Sequence belongs: in the hook thread for a spec's instance, else here.

        A Ctrl-C ends the wait for the hook thread and not the call, so the next call here waits for its end.
        """
        own, thread = self._own, self._own.source.hook_thread
        if thread.is_current or not (own.spec is not None or own.source.is_spec):
            return function(*args)
        self._unfinished = thread.submit(function, *args)
        return self._finish_call()

    def _finish_call(self) -> Any:
        unfinished = self._unfinished
        if unfinished is None or self._own.source.hook_thread.is_current:
            return None
        try:
            return self._own.source.hook_thread.wait(unfinished)
        finally:
            if unfinished.done():
                self._unfinished = None

    def end_epoch(self, epoch: int, *, leave_rest: bool = False) -> None:
        """End this epoch now, if the stream is in the middle of it: its rest is dropped, and ``on_epoch_end`` runs.

        The next batch is the next epoch's first one or, with ``leave_rest`` and then `go_on`, the first of the rest, in
        the next epoch. An error of the hook comes out of the next `next_batch`.
        """
        with self._lock:
            self._finish_call()
            length = len(self._order)
            if self._stopped or not self._opened or epoch != self._epoch or not 0 < self._position < length:
                return
            if leave_rest:
                self.bookmark.note_rest(epoch, Ranges([(0, self._position)]))
            self._position = length
            self._progress = (epoch, length, len(self._skipped))
            self._call(self._end_epoch_alone)

    def go_on(self) -> None:
        """Have the next epoch begin with the rest that the last `end_epoch` left, if the length is still the same."""
        self.bookmark.go_on(self.next_epoch)

    @property
    def taken_total(self) -> int:
        """The number of batches and skips that the trainer has taken."""
        return self._taken_total

    @property
    def epoch(self) -> int:
        """The epoch of the batch taken last; before that, the first one."""
        return self._epoch

    def note_failure(self, error: BaseException) -> None:
        """Nothing to note: a serial session has no report."""

    def raise_failure(self) -> None:
        """Nothing to raise: every error of a serial session comes out of `next_batch`."""

    @property
    def next_epoch(self) -> int:
        """The epoch of the next batch."""
        return self._epoch + (self._opened and self._position == len(self._order))

    def _end_epoch_alone(self) -> None:
        """End an epoch that was asked for alone. An error of the hook is kept for the next epoch, as with workers."""
        try:
            self._end_epoch()
        except Exception as error:
            self._hook_error = error

    def _end_epoch(self) -> None:
        if self._hook_error is not None:
            raise self._hook_error
        if not self._ended:
            self._own.end_epoch(self.seed, self._epoch, self._instance)
            self._ended = True

    def _enter_epoch(self) -> None:
        if self._opened:
            self._end_epoch()
            # Before the next epoch opens, which may fail: on_epoch_end never runs twice for one epoch.
            self._opened = False
            self._epoch += 1
            self._order, self._position = (), 0
            if self._stopped:
                return
        own, plan = self._own, self._read()
        self._instance = own.instance
        shuffle = is_shuffled(own.instance, self.options.shuffle)
        self._order = plan.order(self.seed, self._epoch, shuffle=shuffle)
        own.enter(self._epoch, own.spec, own.instance)
        self._position = 0
        self._opened, self._ended = True, False

    def _read(self) -> EpochPlan:
        """Read the Sequence as it is now, and plan the epoch. Raises ValueError if there is nothing to compute."""
        self._own.read()
        length = self._own.length(self._epoch)
        plan = self.bookmark.make_plan(self._epoch, length) if length > 0 else None
        if plan is None or plan.left_count < 1:
            raise ValueError(f"the Sequence is empty (for this rank): len() is {length}, shard is {self.options.shard}")
        return plan

    def _compute(self, index: int) -> Any:
        """The batch at this index, or a `BatchSkipped`; ``retries`` and ``max_skipped`` are followed as in the core."""
        failures_count = 0
        while True:
            try:
                return compute_item(self._instance, index, seed=self.seed, epoch=self._epoch)
            except KeyboardInterrupt:
                raise  # here it is the user's own Ctrl-C, in the training loop's thread
            except BaseException as error:
                failures_count += 1
                if self.options.may_retry(failures_count):
                    self._retries_count += 1
                    continue
                failed = BatchFailed(index, self._epoch, "trainer", socket.gethostname(), InPlaceError.of(error))
                if self.options.may_skip(self.bookmark.skipped_before + len(self._skipped)):
                    logger.warning("%s", failed.describe_skip())
                    return BatchSkipped(index, self._epoch)
                raise build_error(failed)  # noqa: B904 - the error has its cause, which names the batch

    def _get_received(self) -> Received:
        epoch, position, skipped_count = self._progress
        skipped = tuple(self._skipped[:skipped_count])
        return Received(epoch, Ranges([(0, position)]), skipped, self._taken_total > 0)

    @property
    def verdict(self) -> Verdict:
        """The verdict of a serial session: no worker computes."""
        times = self._times
        seconds = times.elapsed_seconds - times.startup_seconds if self._taken_total else 0.0
        return judge(Window(seconds, self._taken_total, times.wait_seconds - times.startup_wait_seconds, 0, 0.0))

    def stats(self) -> Stats:
        """A snapshot; everything about workers is 0."""
        return Stats(
            running=not self._stopped,
            epoch=self._epoch,
            length=len(self._order),
            taken_count=self._position,
            batches_total=self._taken_total,
            elapsed_seconds=self._times.elapsed_seconds,
            startup_seconds=self._times.startup_seconds,
            wait_seconds=self._times.wait_seconds,
            startup_wait_seconds=self._times.startup_wait_seconds,
            skipped=tuple(self._skipped),
            retries_count=self._retries_count,
            verdict=self.verdict,
        )

    def stop(self, timeout: float) -> bool:
        """End the stream; returns True. It does not wait for another thread's batch, the last one of that thread."""
        self._stopped = True
        self._times.end()
        self._own.source.end_session(self, [])
        return True

    def let_go(self, timeout: float) -> None:
        """After `stop`: keep the progress alone, unless another thread's last batch will still change it."""
        if self._lock.acquire(blocking=False):
            try:
                self.bookmark.freeze(timeout)
            finally:
                self._lock.release()

    def disarm(self) -> None:
        """In a forked child: end the stream, without the lock. A thread of the parent may have held it at the fork."""
        self._stopped = True
        self._lock = threading.RLock()
