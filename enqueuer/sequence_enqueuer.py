"""The public class: TensorFlow's `SequenceEnqueuer`, on any number of processes and machines; and `OrderedEnqueuer`.

It is the API alone: a `Session` of the runtime, or a `SerialSession`, does the work between ``start()`` and ``stop()``.

Both constructors list every option, so that editors, type checkers and ``help()`` see each of them. A test holds both
lists against `Options`.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import os
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from typing import Any

from enqueuer.argument_names import with_options, with_start_arguments
from enqueuer.argument_values import read_count, read_flag, read_queue_size, read_seconds
from enqueuer.compute.sequence_checks import check_sequence
from enqueuer.compute.spec import SequenceSpec
from enqueuer.core.verdict import Verdict, judge
from enqueuer.core.window import Window
from enqueuer.errors import ConfigurationError, NoWorkersError
from enqueuer.host import check_room, usable_cpus
from enqueuer.monitoring.stats import Stats
from enqueuer.options import (
    DEFAULT_TIMING,
    OPTION_NAMES,
    Compression,
    Hedge,
    OnError,
    Options,
    QueueSize,
    ShardRemainder,
    Timing,
    WorkerInit,
    options_among,
)
from enqueuer.runtime.bookmarks import Bookmarks
from enqueuer.runtime.channels import settle_keys
from enqueuer.runtime.epoch_view import EpochView
from enqueuer.runtime.iteration import SharedIterator, StreamEnd
from enqueuer.runtime.local_processes import LocalProcesses
from enqueuer.runtime.passes import Passes
from enqueuer.runtime.probe import repeat
from enqueuer.runtime.serial_session import SerialSession
from enqueuer.runtime.session import Session
from enqueuer.runtime.trainer_sequence import SequenceReader, TrainerSequence
from enqueuer.stream.order import shard_length

logger = logging.getLogger("enqueuer")

_uids = itertools.count()
_alive: weakref.WeakSet[SequenceEnqueuer] = weakref.WeakSet()
# The time between two looks of `wait_for_workers`.
_POLL_SECONDS = 0.02


class SequenceEnqueuer:
    """Computes ``sequence[i]`` on local threads, local processes and remote workers, and yields the batches in order.

    ``sequence`` is anything with ``__len__`` (batches per epoch) and ``__getitem__`` (the batch at an index), and
    optionally ``on_epoch_end()``; or a `SequenceSpec`, which remote workers need.

    ``for batch in enqueuer.epoch()`` ends with the epoch. ``get()``, and iterating over the enqueuer itself, give one
    endless stream, as in Keras: the loop needs a ``break``, or `itertools.islice`.
    """

    @with_options
    def __init__(
        self,
        sequence: Any,
        use_multiprocessing: bool = False,
        *,
        # Order and randomness
        shuffle: bool = False,
        seed: int | None = None,
        ordered: bool = True,
        shard: tuple[int, int] = (0, 1),
        shard_remainder: ShardRemainder = "drop",
        prefetch_epochs: bool | None = None,
        # Faults
        retries: int = 0,
        on_error: OnError = "raise",
        max_skipped: int = 100,
        max_worker_deaths: int | None = 3,
        hedge: Hedge | float | None = "auto",
        batch_timeout: float | None = None,
        no_worker_timeout: float | None = None,
        # Remote workers
        bind: str | None = None,
        data_bind: str | None = None,
        advertise: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        allow_pickle: bool = False,
        insecure: bool = False,
        compression: Compression | None = None,
        # Resources
        max_bytes: int | None = None,
        min_workers: int = 1,
        worker_threads: int = 1,
        worker_init: WorkerInit | None = None,
        max_batches_per_worker: int | None = None,
        persistent_workers: bool = False,
        shared_memory: bool = True,
        metrics_port: int | None = None,
        report: str | os.PathLike[str] | None = None,
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        """Check the Sequence and the options; nothing is started before ``start()``.

        Args:
            sequence: the Sequence, or its `SequenceSpec`.
            use_multiprocessing: local workers are processes instead of threads.
            shuffle: this and every keyword after it is an option; `enqueuer.options.Options` describes each.

        Raises:
            TypeError: ``sequence`` lacks a method, or an option is unknown; the text names it.
            ConfigurationError: an option has an invalid value; the text names it. Also a ValueError.
        """
        given = options_among(locals())  # before any other name is here
        self._session: Session | SerialSession | None = None
        # The session that is being stopped: the next one may need its port, and its processes.
        self._ending: Session | SerialSession | None = None
        self.sequence = sequence
        self.use_multiprocessing = use_multiprocessing
        self._options = settle_keys(Options(**given))
        self.shuffle = self._options.shuffle
        self.uid = next(_uids)
        # Written by `start` alone, as ``workers``.
        self._workers = 0
        # Reentrant: a user's signal handler may call stop() in the middle of start() or stop().
        self._start_lock = threading.RLock()
        self._processes = LocalProcesses(self._options.worker_threads, self._options.timing.heartbeat_interval)
        self._own = TrainerSequence(SequenceReader(self))
        self._bookmarks = Bookmarks(self._own, self._options)
        # The last session's statistics, which stay available after its end.
        self._last_stats = Stats()
        self._last_verdict = judge(Window(0.0, 0, 0.0, 0, 0.0))
        # The adapters' place in the stream, shared by all views of this enqueuer.
        self._passes = Passes()
        # Objects that end with this enqueuer, such as a fleet of workers.
        self._companions = contextlib.ExitStack()
        # Why no session runs, in words; and whether a stream without batches was warned of since the last start.
        self._idle_reason = "start() was not called yet"
        self._has_warned_idle = False
        _alive.add(self)

    # ------------------------------------------------------------ life cycle

    @with_start_arguments
    def start(self, workers: int | None = 1, max_queue_size: QueueSize = 10, *, epoch: int | None = None) -> None:
        """Begin a new pass and prefetch at once. Returns once the first epoch is open, before its first batch is there.

        Args:
            workers: the number of local threads or processes. None: the number of CPUs. 0 with ``bind``: remote workers
                alone compute. 0 without ``bind``: the consumer's own thread computes each batch on demand.
            max_queue_size: the bound on undelivered batches, apart from one more for each slot. 0 or less: the epoch
                alone bounds them. 'auto': as many as keep the trainer from waiting while workers are idle, within
                ``max_bytes`` (here by default an eighth of the machine's memory).
            epoch: the number of the first epoch. None: the next number, or after `load_state_dict` the state's.

        Raises:
            ValueError: an argument is out of range.
            TypeError: an argument has the wrong type.
            RuntimeError: the enqueuer is running.
            OSError: an address cannot be bound, or the ``report`` cannot be written.
            StateError: `sequence` was replaced after `load_state_dict`.
            Exception: the Sequence cannot be built, has no batches or no valid length, or cannot be sent to worker
                processes: its own error, ValueError, TypeError or ConfigurationError.

        Errors of later calls of the Sequence come out of ``next()``.
        """
        count = usable_cpus() if workers is None else read_count("workers", workers, none="one worker a CPU")
        if self.use_multiprocessing:
            check_room(count)
        queue_size = read_queue_size(max_queue_size)
        first_epoch = None if epoch is None else read_count("epoch", epoch, none="the next epoch")
        least = self._options.min_workers
        if self._options.bind is None and least > 1 and count < least:
            raise ConfigurationError(f"min_workers={least}, but without bind=… there are never more than {count}")
        ending = self._ending
        if ending is not None:
            ending.stop(self._options.timing.stop)
        with self._start_lock:
            self._check_stopped()
            session = self._make_session(count, queue_size, first_epoch)
            # In this order: `wait_for_workers` in another thread reads both.
            self._workers, self._session = count, session
            self._has_warned_idle = False
            before = self._bookmarks.begin(session.bookmark)
        # Outside of the lock: it runs the user's code, and stop() must not wait for that.
        try:
            session.wait_until_open()
        except BaseException as error:
            if self._session is session:
                self._fail(error, "start()")
                self._bookmarks.restore(before)
            raise

    def _make_session(self, count: int, max_queue_size: int | None, epoch: int | None) -> Session | SerialSession:
        bookmark = self._bookmarks.make(self.sequence, epoch)
        if count == 0 and self._options.bind is None:
            return SerialSession(bookmark)
        return Session(
            bookmark,
            threads=0 if self.use_multiprocessing else count,
            local_processes=count if self.use_multiprocessing else 0,
            max_queue_size=max_queue_size,
            processes=self._processes,
        )

    def is_running(self) -> bool:
        """Whether a session runs: ``start()`` was called, and neither ``stop()`` nor an error has ended it."""
        return self._session is not None

    def stop(self, timeout: float | None = None) -> None:
        """End the pass: drop pending batches, release waiting consumers, end the workers.

        Idempotent, and callable from any thread, also from ``on_epoch_end``. Takes at most ``timeout`` seconds
        (default: ``timing.stop``, 10); a thread that is still inside a user's call ends after that call.
        """
        self._stop(timeout, keep_processes=self._options.persistent_workers)

    def _fail(self, error: BaseException, call: str = "the last next()") -> None:
        """Stop after an error that came out of this call."""
        # Text, since the error itself would keep the frames of its traceback, and all objects in them.
        reason = f"{type(error).__name__} came out of {call} and stopped the enqueuer"
        session = self._session
        if session is not None:
            session.note_failure(error)
        self._stop(None, keep_processes=self._options.persistent_workers, reason=reason)

    def close(self) -> None:
        """Stop, and release what outlasts ``stop()``. The enqueuer can be started again.

        Ends the processes of ``persistent_workers`` and a fleet that was made for this enqueuer. Closes the instance
        that was built from a `SequenceSpec`: its ``close()`` is called, if it has one.
        """
        self._stop(None, keep_processes=False)
        with self._companions.pop_all():
            self._own.close(self._options.timing.stop)

    def _stop(self, timeout: float | None, *, keep_processes: bool, reason: str = "stop() was called") -> None:
        limit = self._options.timing.stop if timeout is None else max(0.0, read_seconds("timeout", timeout))
        with self._start_lock:
            session, self._session = self._session, None
            if session is not None:
                self._idle_reason = reason
                self._bookmarks.use_up(session.epoch)
                self._ending = session
            ending = self._ending
        if ending is not None:
            # One of several callers stops the session, and the others wait for it.
            if ending.stop(limit):
                self._last_stats = ending.stats()
                self._last_verdict = ending.verdict
            ending.let_go(limit)
            with self._start_lock:
                if self._ending is ending:
                    self._ending = None
        if not keep_processes:
            with self._start_lock:
                if self._session is None:  # otherwise a new session uses them by now
                    self._processes.stop(limit)

    def __enter__(self) -> SequenceEnqueuer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # The attributes are missing if __init__ raised; at interpreter exit any global may be gone, contextlib's too.
        if getattr(self, "_session", None) is not None or hasattr(self, "_processes"):
            try:  # noqa: SIM105
                self.close()
            except Exception:  # noqa: S110
                pass

    # ------------------------------------------------------------ the stream

    def get(self) -> Generator[Any, None, None]:
        """An endless generator of batches: a lazy view of the one stream, shared by all generators.

        It looks at the enqueuer only when pulled, and ends after ``stop()``. As in Keras it is empty, without an error,
        while the enqueuer is not running; a warning in the log says so. ``next()`` returns a batch, or raises
        StopIteration at the end. In a failed batch's place it raises the Sequence's own exception, with a
        `SequenceError` as its ``__cause__``; other failures raise another `EnqueuerError`. After an error the enqueuer
        is stopped, and can be started again.
        """
        self._warn_if_idle()
        with contextlib.suppress(StreamEnd):
            while True:
                yield self._next_batch()

    def epoch(self) -> Generator[Any, None, None]:
        """The batches up to the end of the epoch that the next batch belongs to. Errors are those of `get`.

        Raises RuntimeError if the enqueuer is not running: before ``start()``, after ``stop()`` and after an error.
        """
        session = self._session
        if session is None:
            raise RuntimeError(f"no epoch to iterate over: {self._idle_reason}; call start() first")
        return self._rest_of_epoch(session)

    def _rest_of_epoch(self, session: Session | SerialSession) -> Generator[Any, None, None]:
        number = session.next_epoch
        with contextlib.suppress(StreamEnd):
            while self._session is session:
                yield self._next_batch(number)

    def __iter__(self) -> Iterator[Any]:
        """The endless stream of `get`, as an iterator that several threads may pull from. It does not end by itself."""
        return SharedIterator(self._next_batch, self._warn_if_idle)

    def _warn_if_idle(self) -> None:
        """Log, once until the next start, that a stream is empty: a training on no batches looks like a success."""
        if self._session is None and not self._has_warned_idle:
            self._has_warned_idle = True
            logger.warning("the stream has no batches: %s; call start() first", self._idle_reason)

    def _next_batch(self, only_epoch: int | None = None) -> Any:
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
                self._fail(error)
            raise

    def _epoch_view(self) -> EpochView | None:
        """The running session's stream, for the adapters; None when not running."""
        session = self._session
        return None if session is None else EpochView(self, session)

    # ------------------------------------------------------------ resuming

    def state_dict(self) -> dict[str, Any]:
        """The progress in the stream, as JSON values. With ``shard`` each rank has its own.

        *Received* batches count: those that ``next()`` returned, and the skipped and None ones before them. Failed and
        prefetched batches do not count. Before ``start()`` it is the beginning, or the loaded state; after ``stop()``
        the progress at the end. Callable at any time and from any thread, also from ``on_epoch_end``: that call counts
        as still to come.

        Its size is below 4 KB with ``ordered=True``, apart from the Sequence's own state and some 30 bytes for each
        earlier ``start()`` with on_epoch_end calls to repeat.

        The own state of a live Sequence, if that has ``state_dict`` and ``load_state_dict``, becomes part of it. Raises
        the errors of that ``state_dict``, and StateError if it returns anything but JSON values.
        """
        return self._bookmarks.state().to_json()

    def load_state_dict(self, state: Any) -> None:
        """Resume: the next ``start()`` goes on after the last batch received when ``state`` was saved.

        ``state`` is a result of `state_dict`, from this process or another, also through JSON. The number and kind of
        workers may differ. With another ``shard``, pass the list of all ranks' states to every new rank: the rest of
        the epoch is dealt to the new ranks, each batch exactly once (some ranks may get one more than others).

        The Sequence is brought to its state at that time: a live one by its own ``load_state_dict``, if it has that and
        ``state_dict``; else by ``set_epoch(epoch)``, if it has that; else by the same calls of ``on_epoch_end`` under
        the same seeds. If the epoch was over and its ``on_epoch_end`` had not run, it runs now.

        Raises:
            StateError: the state is malformed, or its version, seed, length, options or ranks do not fit; the text
                names the cause.
            RuntimeError: the enqueuer is running.
            Exception: the errors of the Sequence's own code.
        """
        ending = self._ending
        if ending is not None:  # its last on_epoch_end may be running
            ending.stop(self._options.timing.stop)
        self._check_stopped()
        # Outside of the lock: it runs the user's code, and stop() must not wait for that.
        point = self._bookmarks.read(state, self.sequence)
        with self._start_lock:
            self._check_stopped()
            self._bookmarks.load(point)

    def _check_stopped(self) -> None:
        if self._session is not None:
            raise RuntimeError("already running: call stop() first")

    # ------------------------------------------------------------ asking

    def __len__(self) -> int:
        """Batches in one epoch of this trainer (of its shard), read from the Sequence now."""
        return shard_length(self._own.length(), self._options.shard, self._options.shard_remainder)

    def __repr__(self) -> str:
        """The Sequence, the kind and number of workers, whether a session runs, and its epoch."""
        kind = "processes" if self.use_multiprocessing else "threads"
        remote = "" if self._options.bind is None else f", bind={self.endpoint or self._options.bind!r}"
        name = f"{type(self).__name__}({_describe_sequence(self.sequence)}, {kind}{remote}"
        session = self._session
        if session is None:
            return f"<{name}), stopped>"
        count = session.workers_count
        return f"<{name}), running with {count} worker{'' if count == 1 else 's'}, epoch {session.epoch}>"

    @property
    def workers(self) -> int:
        """The number of local threads or processes that ``start()`` was called for; 0 before that."""
        return self._workers

    def __setattr__(self, name: str, value: Any) -> None:
        """Options are fixed once the enqueuer is made: a change that has no effect would pass unnoticed."""
        if name in ("workers", "max_queue_size"):
            raise AttributeError(f"{name} is an argument of start(): call stop(), then start({name}={value!r})")
        if name == "sequence" and not isinstance(value, SequenceSpec):
            check_sequence(value)
        if name == "use_multiprocessing":  # it counts from the next start()
            value = _read_use_multiprocessing(value)
        # A subclass may keep an option of its own constructor under the same name.
        if name in OPTION_NAMES and "_options" in vars(self) and getattr(self._options, name) != value:
            raise AttributeError(
                f"{name} cannot be changed once the enqueuer is made: make a new one, with "
                f"{type(self).__name__}(sequence, {name}={value!r})"
            )
        super().__setattr__(name, value)

    @property
    def endpoint(self) -> str | None:
        """The address for remote workers, with its real port; None without ``bind`` or when not running."""
        session = self._session
        return None if session is None else session.endpoint

    @property
    def key_file(self) -> str | None:
        """The key file for remote workers, from the argument or the environment; None: no keys."""
        found = self._options.key_file
        return None if found is None else str(found)

    def stats(self) -> Stats:
        """A snapshot of the running session's statistics, or else of the last session's: see `Stats`."""
        session = self._session
        return self._last_stats if session is None else session.stats()

    def verdict(self) -> Verdict:
        """The verdict on what holds the training back now, with its figures and the cure; after the end, the last one.

        It needs 30 seconds and 20 batches; before that its cause is `Cause.TOO_EARLY`. The log says it when it changes.
        """
        session = self._session
        return self._last_verdict if session is None else session.verdict

    def probe(self, steps: int = 50) -> Generator[Any, None, None]:
        """Repeat one batch from memory, to measure how fast the training loop is when it never waits for data::

            for batch in enq.probe(steps=50):
                train_step(batch)
            print(enq.verdict())

        Each step gets a copy of the stream's next batch, which stays the next one. `verdict` and its number of slots
        go by the rate measured, in batches a second, until ``stop()``; the probe's own time is in no verdict. Call it
        where nobody else takes batches.

        Raises:
            RuntimeError: the enqueuer is not running, or has no workers (``start(workers=0)`` without ``bind``).
            ValueError: ``steps`` is below 2; the first step only warms up.
            Exception: the error of the next batch, if that failed; it stops the enqueuer, as in `get`.
        """
        if read_count("steps", steps) < 2:
            raise ValueError(f"steps must be 2 or more, not {steps!r}: the first one only warms up")
        session = self._session
        if session is None:
            raise RuntimeError(f"no batch to repeat: {self._idle_reason}; call start() first")
        if isinstance(session, SerialSession):
            raise RuntimeError(
                "nothing to probe: the trainer computes each batch itself; call start(workers=1) or more"
            )
        return self._probe(session, steps)

    def _probe(self, session: Session, steps: int) -> Generator[Any, None, None]:
        try:
            batch = session.peek()
        except StreamEnd:
            return
        except BaseException as error:
            if self._session is session and not isinstance(error, KeyboardInterrupt):
                self._fail(error)
            raise
        session.begin_probe()
        yield from repeat(batch, steps, session.end_probe)

    def wait_for_workers(self, n: int, timeout: float | None = None) -> None:
        """Wait until ``n`` workers serve; a local thread or process counts as one.

        Raises:
            TimeoutError: after ``timeout`` seconds (None: no limit).
            NoWorkersError: without ``bind``, ``n`` is above the number of local workers.
            RuntimeError: the enqueuer is not running.
            TypeError: an argument has the wrong type.
            Exception: the session has failed; ``next()`` raises the same error.
        """
        n = read_count("n", n)
        timeout = None if timeout is None else read_seconds("timeout", timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            session = self._session
            if session is None:
                raise RuntimeError(f"not running: {self._idle_reason}; call start() first")
            session.raise_failure()
            if session.workers_count >= n:
                return
            if self._options.bind is None and n > self.workers:
                raise NoWorkersError(f"{n} workers will never be there: start() was called for {self.workers}")
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(
                    f"{session.workers_count} of {n} workers after {timeout:g} s; "
                    f"{session.refusals or _how_to_get_workers(session.endpoint)}"
                )
            time.sleep(_POLL_SECONDS)

    # ------------------------------------------------------------ forks

    def _disarm(self) -> None:
        """In a forked child of the trainer: let go of the session. Its threads and sockets are the parent's."""
        session, self._session, self._ending = self._session, None, None
        self._idle_reason = "it was started in another process, of which this one is a fork"
        self._bookmarks.disarm()
        # A new one: a thread that is not in this process may hold its lock for ever.
        self._passes = Passes()
        self._companions.pop_all()
        self._own.disarm()
        self._start_lock = threading.RLock()
        self._processes.disarm()
        if session is not None:
            session.disarm()


def _how_to_get_workers(endpoint: str | None) -> str:
    if endpoint is None:
        return "the local ones still start, or wait for the Sequence to be built"
    return f"the trainer listens at {endpoint}: start `enqueuer worker --connect …` on other machines"


class OrderedEnqueuer(SequenceEnqueuer):
    """`SequenceEnqueuer` under TensorFlow's other name, with ``shuffle`` as its third positional argument."""

    @with_options
    def __init__(
        self,
        sequence: Any,
        use_multiprocessing: bool = False,
        shuffle: bool = False,
        *,
        # Order and randomness
        seed: int | None = None,
        ordered: bool = True,
        shard: tuple[int, int] = (0, 1),
        shard_remainder: ShardRemainder = "drop",
        prefetch_epochs: bool | None = None,
        # Faults
        retries: int = 0,
        on_error: OnError = "raise",
        max_skipped: int = 100,
        max_worker_deaths: int | None = 3,
        hedge: Hedge | float | None = "auto",
        batch_timeout: float | None = None,
        no_worker_timeout: float | None = None,
        # Remote workers
        bind: str | None = None,
        data_bind: str | None = None,
        advertise: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        allow_pickle: bool = False,
        insecure: bool = False,
        compression: Compression | None = None,
        # Resources
        max_bytes: int | None = None,
        min_workers: int = 1,
        worker_threads: int = 1,
        worker_init: WorkerInit | None = None,
        max_batches_per_worker: int | None = None,
        persistent_workers: bool = False,
        shared_memory: bool = True,
        metrics_port: int | None = None,
        report: str | os.PathLike[str] | None = None,
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        """Check the Sequence and the options, as `SequenceEnqueuer` does; nothing is started before ``start()``.

        Args:
            sequence: the Sequence, or its `SequenceSpec`.
            use_multiprocessing: local workers are processes instead of threads.
            shuffle: this and every keyword after it is an option; `enqueuer.options.Options` describes each.

        Raises:
            TypeError: ``sequence`` lacks a method, or an option is unknown; the text names it.
            ConfigurationError: an option has an invalid value; the text names it. Also a ValueError.
        """
        super().__init__(sequence, use_multiprocessing, **options_among(locals()))


def _read_use_multiprocessing(value: Any) -> bool:
    try:
        return read_flag("use_multiprocessing", value)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}; the number of workers is an argument of start()") from None


def _describe_sequence(sequence: Any) -> str:
    return repr(sequence.target) if isinstance(sequence, SequenceSpec) else type(sequence).__name__


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
