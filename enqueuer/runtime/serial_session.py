"""``workers=0`` without ``bind``: each batch is computed in the consumer's own thread, when it is asked for.

The same stream as with workers (order, seeds, errors, skips, epochs) without a thread, a process or a queue: the
plainest way to debug a Sequence, and the baseline that workers are measured against.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from typing import Any, Final

from enqueuer.compute.error_records import in_place_error
from enqueuer.compute.item import compute_item
from enqueuer.monitoring.stats import Stats
from enqueuer.runtime.bookmark import Bookmark, own_shard
from enqueuer.runtime.iteration import StreamEnd
from enqueuer.runtime.receipts import Received
from enqueuer.stream.ranges import Ranges

# What `_compute` returns for a batch that is left out.
_SKIPPED: Final = object()


class SerialSession:
    """Has the methods of `Session` that the public class uses."""

    endpoint: str | None = None
    workers_count = 0
    max_queue_size = 1

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
        # Whether on_epoch_end of the epoch that is opened has run.
        self._ended = False
        self._hook_error: Exception | None = None
        self._retries_count = 0
        self._taken_total = 0
        self._position = 0
        self._skipped: list[tuple[int, int]] = []
        # As of one moment, for other threads: replaced as a whole.
        self._place = (self._epoch, 0, 0)
        bookmark.follow(self._get_received)

    def next_batch(self, only_epoch: int | None = None) -> Any:
        """As `Session.next_batch`; on_epoch_end runs in the caller's thread, when something is asked for beyond the
        epoch's last batch: the next epoch's first, or with ``only_epoch`` one more of the same.
        """
        with self._lock:
            while True:
                if self._stopped:
                    raise StreamEnd
                if only_epoch is not None and self.next_epoch > only_epoch:
                    if self._opened and self._epoch == only_epoch and self._hook_error is None:
                        self._end_epoch_alone()
                    raise StreamEnd
                if not self._opened or self._position == len(self._order):
                    self._enter_epoch()
                    continue
                index = self._order[self._position]
                batch = self._compute(index)
                # After it: a Ctrl-C in the middle loses no batch.
                self._position += 1
                self._taken_total += 1
                if batch is _SKIPPED:
                    self._skipped.append((self._epoch, index))
                self._place = (self._epoch, self._position, len(self._skipped))
                if batch is not None and batch is not _SKIPPED:
                    return batch

    def open_epochs_on_demand(self) -> None:
        """It never does otherwise."""

    @property
    def epoch(self) -> int:
        return self._epoch

    def raise_failure(self) -> None:
        """Nothing can break it but what `next_batch` raises."""

    @property
    def next_epoch(self) -> int:
        return self._epoch + (self._opened and self._position == len(self._order))

    def _end_epoch_alone(self) -> None:
        """Its batches are all there, so what the hook raises belongs to what is asked for next, as with workers."""
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
            # The end of an epoch is not run twice if the next one cannot be opened.
            self._opened = False
            self._epoch += 1
            self._order, self._position = (), 0
            if self._stopped:
                return
        own = self._own
        self._instance = own.read()
        length = own.length()
        plan = self.bookmark.make_plan(self._epoch, length) if length > 0 else None
        if plan is None or plan.left_count < 1:
            shard = own_shard(self.options)
            raise ValueError(f"the Sequence is empty (for this rank): len() is {length}, shard is {shard}")
        self._order = plan.order(self.seed, self._epoch, shuffle=self.options.shuffle)
        own.enter(self._epoch, own.spec, own.instance)
        self._position = 0
        self._opened, self._ended = True, False

    def _compute(self, index: int) -> Any:
        for attempt in range(self.options.retries + 1):
            try:
                return compute_item(self._instance, index, seed=self.seed, epoch=self._epoch, seed_globals=False)
            except KeyboardInterrupt:
                raise  # here it is the user's own Ctrl-C, in the training loop's thread
            except BaseException as error:
                if attempt < self.options.retries:
                    self._retries_count += 1
                    continue
                skipped_count = len(self._skipped) + self.bookmark.skipped_before
                if self.options.on_error == "skip" and skipped_count < self.options.max_skipped:
                    return _SKIPPED
                place = in_place_error(
                    error, index=index, epoch=self._epoch, worker="trainer", host=socket.gethostname()
                )
                if place is error:
                    raise
                raise place from error
        raise AssertionError("unreachable: the loop returns or raises")

    def _get_received(self) -> Received:
        epoch, position, skipped_count = self._place
        skipped = tuple(self._skipped[:skipped_count])
        return Received(epoch, Ranges([(0, position)]), skipped, self._taken_total > 0)

    def stats(self) -> Stats:
        return Stats(
            running=not self._stopped,
            epoch=self._epoch,
            length=len(self._order),
            taken_count=self._position,
            batches_total=self._taken_total,
            skipped=tuple(self._skipped),
            retries_count=self._retries_count,
        )

    def stop(self, timeout: float) -> bool:
        """Another thread's batch that is being computed is not waited for; its stream ends after it."""
        self._stopped = True
        return True

    def let_go(self, timeout: float) -> None:
        """After `stop`: only the place in the stream stays. Not while another thread's batch will yet change it."""
        if self._lock.acquire(blocking=False):
            try:
                self.bookmark.freeze(timeout)
            finally:
                self._lock.release()

    def disarm(self) -> None:
        self._stopped = True
        self._lock = threading.RLock()
