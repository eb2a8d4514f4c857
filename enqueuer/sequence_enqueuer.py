"""The public class: TensorFlow's `SequenceEnqueuer`, on any number of processes and machines.

Nothing but the API and the hand-over to the runtime.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import operator
import os
import random
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from typing import Any

from enqueuer.compute.sequence_checks import check_sequence
from enqueuer.compute.spec import SequenceSpec
from enqueuer.config import Options
from enqueuer.core.epoch_order import shard_length
from enqueuer.errors import ConfigurationError, EnqueuerError, NoWorkersError
from enqueuer.monitoring.stats import Stats
from enqueuer.runtime.local_processes import LocalProcesses
from enqueuer.runtime.serial_session import SerialSession
from enqueuer.runtime.session import Session
from enqueuer.runtime.snapshot import IDLE
from enqueuer.runtime.stream_end import StreamEnd

_uids = itertools.count()
_alive: weakref.WeakSet[SequenceEnqueuer] = weakref.WeakSet()
# How often wait_for_workers looks.
_POLL_SECONDS = 0.02


class SequenceEnqueuer:
    """Computes ``sequence[i]`` on local threads, local processes and remote workers, and yields the batches in order.

    ``sequence`` is anything with ``__len__`` (batches per epoch) and ``__getitem__`` (the batch at an index), and
    optionally ``on_epoch_end()``; or a `SequenceSpec`, which remote workers need.

    Args:
        sequence: the Sequence, or its `SequenceSpec`.
        use_multiprocessing: local workers are processes instead of threads.
        shuffle: a new permutation of the batches every epoch.
        seed: fixes order and randomness (0 to 2**64 - 1). Without it one is drawn from the global `random` at each
            ``start()``. With it, ``on_epoch_end`` runs under seeded global generators.
        ordered: False delivers batches as they are completed, still exactly once.
        bind: 'tcp://host:port' for remote workers ('*' or 0 as port: any free one, see `endpoint`).
        data_bind: the second port, for batches; any free one if not given.
        advertise: 'tcp://host:port' of the data port as workers reach it, where that differs (NAT, port mapping).
        shard: (rank, world_size): this trainer's part of each epoch, disjoint and of equal length on every rank.
        shard_remainder: 'drop' leaves out what does not divide by world_size; 'repeat' starts again at the beginning.
        retries: how often a batch whose ``__getitem__`` raised is tried again.
        on_error: 'raise', or 'skip' to leave out batches that failed, up to ``max_skipped``.
        max_skipped: after this many skipped batches the next failure is raised.
        max_bytes: bound on the bytes of undelivered batches, by what batches weigh lately; None for none.
        max_worker_deaths: a batch that killed this many workers raises `PoisonedBatchError`; None: never.
        min_workers: nothing is computed before this many workers are there.
        worker_threads: BLAS/OpenMP/torch/OpenCV threads of each worker process.
        worker_init: called once in each local worker before the Sequence is built; or 'package.module:callable'.
        max_batches_per_worker: a worker process is replaced after this many batches, without loss (for leaky code).
        persistent_workers: keep local processes over ``stop()`` / ``start()``; they end with this object.
        prefetch_epochs: compute the next epoch ahead; None: where nothing can come in between, or it can be checked.
        insecure: allow binding beyond loopback although nothing is encrypted or authenticated yet.
        timing: heartbeat intervals and time-outs (`Timing`).

    Raises:
        TypeError: ``sequence`` lacks something; the text says what.
        ConfigurationError: an option that cannot be (also a ValueError).
    """

    def __init__(self, sequence: Any, use_multiprocessing: bool = False, **options: Any) -> None:
        self._session: Session | SerialSession | None = None
        # One that is being stopped: the next one may want its port, and needs its processes.
        self._ending: Session | SerialSession | None = None
        if not isinstance(sequence, SequenceSpec):
            check_sequence(sequence)
        self.sequence = sequence
        self.use_multiprocessing = bool(use_multiprocessing)
        self._options = Options(**options)
        self.shuffle = self._options.shuffle
        self.uid = next(_uids)
        self.workers = 0
        self._next_epoch = 0
        # Reentrant: a user's signal handler may call stop() in the middle of start() or stop().
        self._start_lock = threading.RLock()
        self._processes = LocalProcesses(self._options.worker_threads, self._options.timing.heartbeat_interval)
        self._built: tuple[SequenceSpec, Any] | None = None

    # ------------------------------------------------------------ life cycle

    def start(self, workers: int | None = 1, max_queue_size: int = 10, *, epoch: int | None = None) -> None:
        """Begin a new pass and prefetch at once. Returns before the first batch is there.

        ``workers`` local threads or processes; 0 with ``bind``: remote workers only; 0 without: batches are computed
        in the consumer's own thread, on demand; None: as many as CPUs. ``max_queue_size`` bounds the undelivered
        batches (at least one more, at most one more a slot); 0 or less: only the epoch does. ``epoch`` sets the
        epoch's number; otherwise each start takes the next one.

        Raises ValueError for a bad argument, RuntimeError if it is running, OSError if an address cannot be bound.
        Errors of the Sequence itself come out of ``next()``.
        """
        count = _usable_cpus() if workers is None else operator.index(workers)
        queue_size = operator.index(max_queue_size)
        if count < 0:
            raise ValueError(f"workers must be 0 or more, or None for one a CPU, not {workers!r}")
        if epoch is not None and operator.index(epoch) < 0:
            raise ValueError(f"epoch must be 0 or more, not {epoch!r}")
        least = self._options.min_workers
        if self._options.bind is None and least > 1 and count < least:
            raise ConfigurationError(f"min_workers={least}, but without bind=… there are never more than {count}")
        ending = self._ending
        if ending is not None:
            ending.stop(self._options.timing.stop)
        with self._start_lock:
            if self._session is not None:
                raise RuntimeError("already running: call stop() before the next start()")
            first_epoch = self._next_epoch if epoch is None else operator.index(epoch)
            session = self._make_session(count, queue_size, first_epoch)
            # In this order: who waits for workers reads both.
            self.workers, self._session = count, session
            _alive.add(self)

    def _make_session(self, count: int, max_queue_size: int, first_epoch: int) -> Session | SerialSession:
        options = self._options
        seed = random.getrandbits(64) if options.seed is None else operator.index(options.seed)
        # Weak: the session's threads must not keep an abandoned enqueuer alive.
        get_sequence = _SequenceReader(self)
        if count == 0 and options.bind is None:
            return SerialSession(get_sequence, options, seed=seed, first_epoch=first_epoch)
        return Session(
            get_sequence,
            options,
            threads=0 if self.use_multiprocessing else count,
            local_processes=count if self.use_multiprocessing else 0,
            max_queue_size=max_queue_size,
            seed=seed,
            first_epoch=first_epoch,
            processes=self._processes,
        )

    def is_running(self) -> bool:
        """Whether ``start()`` was called, and neither ``stop()`` nor an error has ended it."""
        return self._session is not None

    def stop(self, timeout: float | None = None) -> None:
        """End the pass: pending batches are dropped, waiting consumers released, workers ended.

        Idempotent, and callable from any thread, also from ``on_epoch_end``. Takes at most ``timeout`` seconds
        (default: ``timing.stop``, 10); a thread that is inside a user's call then ends with that call.
        """
        self._stop(timeout, keep_processes=self._options.persistent_workers)

    def close(self) -> None:
        """As ``stop()``; also ends the processes that ``persistent_workers`` kept."""
        self._stop(None, keep_processes=False)

    def _stop(self, timeout: float | None, *, keep_processes: bool) -> None:
        limit = self._options.timing.stop if timeout is None else max(0.0, timeout)
        with self._start_lock:
            session, self._session = self._session, None
            if session is not None:
                # A broken-off epoch is not repeated under its number: seeds would repeat with it.
                self._next_epoch = max(self._next_epoch, session.epoch + 1)
                self._ending = session
            ending = self._ending
        if ending is not None:
            # Of several callers one does it and the others wait for it.
            ending.stop(limit)
            with self._start_lock:
                if self._ending is ending:
                    self._ending = None
        if not keep_processes:
            with self._start_lock:
                if self._session is None:  # else they are a new session's by now
                    self._processes.stop(limit)

    def __enter__(self) -> SequenceEnqueuer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Not there if __init__ raised; at interpreter exit anything may be gone.
        if getattr(self, "_session", None) is not None or hasattr(self, "_processes"):
            with contextlib.suppress(Exception):
                self.close()

    # ------------------------------------------------------------ the stream

    def get(self) -> Generator[Any, None, None]:
        """An endless generator of batches: a lazy view of the one stream that all of them share.

        It looks at the enqueuer only when pulled, ends after ``stop()``, and is empty before ``start()``. ``next()``
        returns a batch; raises StopIteration at the end, the Sequence's own exception (its ``__cause__`` a
        `SequenceError`) in the failed batch's place, or another `EnqueuerError`; after an error the enqueuer is stopped
        and can be started again.
        """
        with contextlib.suppress(StreamEnd):
            while True:
                yield self._next_batch(None)

    def epoch(self) -> Generator[Any, None, None]:
        """As `get`, but it ends with the epoch of the next batch."""
        session = self._session
        if session is None:
            return
        number = session.next_epoch
        with contextlib.suppress(StreamEnd):
            while self._session is session:
                yield self._next_batch(number)

    def __iter__(self) -> Iterator[Any]:
        """The same endless stream as an iterator that several threads may pull from."""
        return _SharedIterator(self)

    def _next_batch(self, only_epoch: int | None) -> Any:
        session = self._session
        if session is None:
            raise StreamEnd
        try:
            return session.next_batch(only_epoch)
        except StreamEnd:
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and error.__cause__ is None:
                raise  # the user's Ctrl-C while waiting: the stream is unharmed
            if self._session is session:
                self.stop()
            raise

    # ------------------------------------------------------------ asking

    def __len__(self) -> int:
        """Batches in one epoch of this trainer (of its shard), read from the Sequence now."""
        return shard_length(len(self._own_instance()), self._options.shard, self._options.shard_remainder)

    def _own_instance(self) -> Any:
        sequence = self.sequence
        if not isinstance(sequence, SequenceSpec):
            return sequence
        if self._built is None or self._built[0] != sequence:
            self._built = (sequence, sequence.build())
        return self._built[1]

    @property
    def endpoint(self) -> str | None:
        """The bound address that workers connect to, with its real port; None without ``bind`` or when not running."""
        session = self._session
        return None if session is None else session.endpoint

    def stats(self) -> Stats:
        """A snapshot of what happens: see `Stats` for how to read it."""
        session = self._session
        return IDLE if session is None else session.stats()

    def wait_for_workers(self, n: int, timeout: float | None = None) -> None:
        """Wait until ``n`` workers serve (a local thread or process counts as one).

        Raises TimeoutError after ``timeout`` seconds (None: no limit), NoWorkersError for more than can ever come
        (without ``bind``), RuntimeError when it is not running, and what ``next()`` will raise if the run has failed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            session = self._session
            if session is None:
                raise RuntimeError("not running: call start() first")
            session.raise_failure()
            if session.workers_count >= n:
                return
            if self._options.bind is None and n > self.workers:
                raise NoWorkersError(f"{n} workers will never be there: start() was called for {self.workers}")
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"{session.workers_count} of {n} workers after {timeout} s")
            time.sleep(_POLL_SECONDS)

    # ------------------------------------------------------------ forks

    def _disarm(self) -> None:
        """In a forked child of the trainer: the threads and sockets are the parent's; touch nothing."""
        session, self._session, self._ending = self._session, None, None
        self._start_lock = threading.RLock()
        self._processes.disarm()
        if session is not None:
            session.disarm()


class OrderedEnqueuer(SequenceEnqueuer):
    """The same class under TensorFlow's other name, with its third positional argument."""

    def __init__(self, sequence: Any, use_multiprocessing: bool = False, shuffle: bool = False, **options: Any) -> None:
        super().__init__(sequence, use_multiprocessing, shuffle=shuffle, **options)


class _SequenceReader:
    """Reads ``enqueuer.sequence`` without keeping the enqueuer alive."""

    def __init__(self, enqueuer: SequenceEnqueuer) -> None:
        self._enqueuer = weakref.ref(enqueuer)

    def __call__(self) -> Any:
        enqueuer = self._enqueuer()
        if enqueuer is None:
            raise EnqueuerError("the enqueuer is gone")
        return enqueuer.sequence


class _SharedIterator:
    """A generator cannot be pulled by two threads at once; this can."""

    def __init__(self, enqueuer: SequenceEnqueuer) -> None:
        self._enqueuer = enqueuer

    def __iter__(self) -> _SharedIterator:
        return self

    def __next__(self) -> Any:
        try:
            return self._enqueuer._next_batch(None)
        except StreamEnd:
            raise StopIteration from None


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@atexit.register
def _stop_all() -> None:
    for enqueuer in list(_alive):
        with contextlib.suppress(Exception):
            enqueuer.close()


def _disarm_all() -> None:
    for enqueuer in list(_alive):
        enqueuer._disarm()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disarm_all)
