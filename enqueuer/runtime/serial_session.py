"""``workers=0`` without ``bind``: each batch is computed in the consumer's own thread, when it is asked for.

The same stream as with workers (order, seeds, errors, skips, epochs) without a thread, a process or a queue: the
plainest way to debug a Sequence, and the baseline that workers are measured against.
"""

from __future__ import annotations

import operator
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from enqueuer.compute.failures import in_place_error
from enqueuer.compute.item import compute_item
from enqueuer.compute.seeding import seeded_globals
from enqueuer.compute.sequence_checks import own_on_epoch_end
from enqueuer.compute.spec import SequenceSpec
from enqueuer.config import Options
from enqueuer.core.epoch_order import epoch_order
from enqueuer.monitoring.stats import Stats
from enqueuer.runtime.stream_end import StreamEnd


class SerialSession:
    """Has the methods of `Session` that the public class uses."""

    endpoint: str | None = None
    workers_count = 0

    def __init__(self, get_sequence: Callable[[], Any], options: Options, *, seed: int, first_epoch: int) -> None:
        self.options = options
        self.seed = seed
        self._get_sequence = get_sequence
        # Reentrant: on_epoch_end may call stop().
        self._lock = threading.RLock()
        self._stopped = False
        self._epoch = first_epoch
        self._order: Sequence[int] = ()
        self._position = 0
        self._spec: SequenceSpec | None = None
        self._instance: Any = None
        self._opened = False
        self._taken_total = 0
        self._retries_count = 0
        self._skipped: list[tuple[int, int]] = []

    def next_batch(self, only_epoch: int | None = None) -> Any:
        """As `Session.next_batch`; on_epoch_end runs in the caller's thread, when the next epoch's first batch is
        asked for.
        """
        with self._lock:
            while True:
                if self._stopped or (only_epoch is not None and self.next_epoch > only_epoch):
                    raise StreamEnd
                if not self._opened or self._position == len(self._order):
                    self._enter_epoch()
                    continue
                index = self._order[self._position]
                batch = self._compute(index)
                # After it: a Ctrl-C in the middle loses no batch.
                self._position += 1
                self._taken_total += 1
                if batch is not None:
                    return batch

    @property
    def epoch(self) -> int:
        return self._epoch

    def raise_failure(self) -> None:
        """Nothing can break it but what `next_batch` raises."""

    @property
    def next_epoch(self) -> int:
        return self._epoch + (self._opened and self._position == len(self._order))

    def _enter_epoch(self) -> None:
        if self._opened:
            hook = own_on_epoch_end(self._instance)
            if hook is not None:
                self._run_hook(hook)
            self._epoch += 1
        source = self._get_sequence()
        if not isinstance(source, SequenceSpec):
            self._spec, self._instance = None, source
        elif source != self._spec:
            self._spec, self._instance = source, source.build()
        length = operator.index(len(self._instance))
        options = self.options
        self._order = epoch_order(
            self.seed,
            self._epoch,
            length,
            shuffle=options.shuffle,
            shard=options.shard,
            remainder=options.shard_remainder,
        )
        if not self._order:
            raise ValueError(f"the Sequence is empty (for this rank): len() is {length}, shard is {options.shard}")
        self._position = 0
        self._opened = True

    def _run_hook(self, hook: Callable[[], Any]) -> None:
        if self._spec is None and self.options.seed is None:
            hook()
            return
        with seeded_globals(self.seed, self._epoch):
            hook()

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
                if self.options.on_error == "skip" and len(self._skipped) < self.options.max_skipped:
                    self._skipped.append((self._epoch, index))
                    return None
                place = in_place_error(
                    error, index=index, epoch=self._epoch, worker="trainer", host=socket.gethostname()
                )
                if place is error:
                    raise
                raise place from error
        raise AssertionError("unreachable: the loop returns or raises")

    def stats(self) -> Stats:
        return Stats(
            running=not self._stopped,
            epoch=self._epoch,
            length=len(self._order),
            taken_count=self._position,
            ready_count=0,
            received_count=0,
            leased_count=0,
            queue_limit=0,
            workers_count=0,
            slots_count=0,
            batches_total=self._taken_total,
            bytes_total=0,
            wait_seconds=0.0,
            skipped=tuple(self._skipped),
            retries_count=self._retries_count,
            stale_count=0,
            malformed_count=0,
            lost_workers_count=0,
            workers=(),
        )

    def stop(self, timeout: float) -> bool:
        """Another thread's batch that is being computed is not waited for; its stream ends after it."""
        self._stopped = True
        return True

    def disarm(self) -> None:
        self._stopped = True
        self._lock = threading.RLock()
