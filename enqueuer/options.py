"""Every option of `SequenceEnqueuer`: its type, its default, its sentence, and what makes a value wrong.

`Options` and `Timing` are frozen and checked when they are made. They read no file, no environment and no socket, so
the pure core takes them as they are; `runtime.channels` looks up the keys and libraries that some of them name.

Each option stands once, as a field with its group and its sentence. `describe_options` makes ``help()`` of it, and the
guide its table.
"""

from __future__ import annotations

import inspect
import math
import operator
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import wraps
from typing import Any, Final, Literal, TypeVar

from enqueuer.argument_values import (
    COUNT_BITS,
    LONGEST_SECONDS,
    address_hint,
    as_float,
    as_integer,
    is_address,
    nearest_name,
    read_flag,
    read_number_of_seconds,
)
from enqueuer.errors import ConfigurationError

OnError = Literal["raise", "skip"]
ShardRemainder = Literal["drop", "repeat"]
Compression = Literal["lz4", "zstd"]
Hedge = Literal["auto", "off"]
QueueSize = int | Literal["auto"]
WorkerInit = Callable[[], object] | str

# A batch that takes three times as long as 19 of 20 do is more often on a slow worker than it is a slow batch.
AUTO_HEDGE_FACTOR: Final = 3.0

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")

_T = TypeVar("_T")


def _option(default: _T, doc: str, group: str = "") -> _T:
    """A field of a frozen table. A group begins at the field that names it."""
    return field(default=default, metadata={"doc": doc, "group": group})


def _in_lines(options: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Names and sentences as the lines of a docstring's section."""
    for name, doc in options:
        yield from textwrap.wrap(f"{name}: {doc}", 112, initial_indent="    ", subsequent_indent="        ")


def _with_sentences(cls: type[_T]) -> type[_T]:
    """Decorate a table: its help has the sentence of each field, and the error for an unknown name the nearest one."""
    options = fields(cls)  # type: ignore[arg-type]
    known = [option.name for option in options]
    construct = cls.__init__

    @wraps(construct)
    def checked(self: _T, *args: Any, **values: Any) -> None:
        for name in values:
            if name not in known:
                raise TypeError(f"{cls.__name__} has no option {name!r}{nearest_name(name, known)}")
        construct(self, *args, **values)

    cls.__init__ = checked  # type: ignore[method-assign,assignment]
    sentences = _in_lines((option.name, option.metadata["doc"]) for option in options)
    cls.__doc__ = "\n".join([inspect.getdoc(cls) or "", "\nAttributes:", *sentences])
    return cls


@_with_sentences
@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals and time-outs, all in seconds. The defaults suit real networks; tests shorten them.

    Raises ConfigurationError for a value that is not above 0, or for time-outs that contradict each other.
    """

    heartbeat_interval: float = _option(
        1.0, "Time between two heartbeats of a worker, and between two looks of the coordinator.", "Time"
    )
    worker_timeout: float = _option(
        10.0, "A worker is lost after this long without any sign of life from itself or its supervisor."
    )
    coordinator_timeout: float = _option(
        30.0,
        "A worker gives its coordinator up after this long without a message. The coordinator shares the training "
        "loop's GIL, which a compilation can hold for long, so this is three times the worker's.",
    )
    no_worker_warning: float = _option(30.0, "Time between two warnings while no worker is there.")
    stop: float = _option(10.0, "How long ``stop()`` takes at most when it is called without a time-out.")

    def __post_init__(self) -> None:
        for option in fields(self):
            # A plain float: it travels as msgpack, and a NumPy number does not.
            value = read_number_of_seconds(f"timing.{option.name}", getattr(self, option.name))
            object.__setattr__(self, option.name, min(value, LONGEST_SECONDS))
            if not value > 0:
                raise ConfigurationError(f"timing.{option.name} must be above 0 seconds, not {value!r}")
        if self.worker_timeout < 2 * self.heartbeat_interval:
            raise ConfigurationError(
                "timing.worker_timeout must be at least two heartbeat intervals, or one late heartbeat is a death"
            )


DEFAULT_TIMING: Final = Timing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The keyword options of `SequenceEnqueuer`. Raises ConfigurationError, which names the option that is wrong."""

    # ------------------------------------------------------------ order
    shuffle: bool = _option(False, "Deliver the batches of each epoch in a new permutation.", "Order and randomness")
    seed: int | None = _option(
        None,
        "Fixes order and randomness (0 to 2**64 - 1). Without it, each ``start()`` draws one from the global `random`. "
        "``on_epoch_end`` runs under global generators seeded from it, which are restored afterwards.",
    )
    ordered: bool = _option(
        True, "Deliver in the order of the epoch; False delivers batches as they are completed, still exactly once."
    )
    shard: tuple[int, int] = _option(
        (0, 1), "(rank, world_size): this trainer's part of each epoch, disjoint and of equal length on every rank."
    )
    shard_remainder: ShardRemainder = _option(
        "drop",
        "'drop' leaves out the batches that do not divide by world_size; 'repeat' starts again at the beginning.",
    )
    prefetch_epochs: bool | None = _option(
        None,
        "Compute the next epoch ahead. None does so where nothing can change the Sequence in between, or where a "
        "change can be detected.",
    )
    # ------------------------------------------------------------ faults
    retries: int = _option(0, "How often a batch is tried again after its ``__getitem__`` raised.", "Faults")
    on_error: OnError = _option(
        "raise", "'raise' the exception of a failed batch in its place, or 'skip' the batch, up to ``max_skipped``."
    )
    max_skipped: int = _option(100, "After this many skipped batches, the next failure is raised.")
    max_worker_deaths: int | None = _option(
        3, "A batch that killed this many workers raises `PoisonedBatchError`; None: it is tried again for ever."
    )
    hedge: Hedge | float | None = _option(
        "auto",
        "A factor: the batch that is next in order is computed by an idle worker as well, once it takes this many "
        "times the 95th percentile of recent batches, and the first answer counts. 'auto' is 3; 'off' or None: never. "
        "A batch of a local thread is not given to another thread of the same process.",
    )
    batch_timeout: float | None = _option(
        None,
        "Seconds after which a worker that still computes one batch is replaced. The batch is tried again on another "
        "worker, ``retries`` times and at least once, then raises `BatchTimeoutError` with the stack where it was "
        "stuck. None: never. Has no effect with ``workers=0``.",
    )
    no_worker_timeout: float | None = _option(
        None, "Raise `NoWorkersError` after this many seconds without any worker. None: wait, and warn every 30 s."
    )
    # ------------------------------------------------------------ remote workers
    bind: str | None = _option(
        None,
        "'tcp://host:port' where remote workers connect ('*' or 0 as port: any free one, see `endpoint`).",
        "Remote workers",
    )
    data_bind: str | None = _option(None, "'tcp://host:port' of the second port, for batches. None: any free port.")
    advertise: str | None = _option(
        None, "'tcp://host:port' of the data port as workers reach it, where that differs (NAT, port mapping)."
    )
    key_file: str | os.PathLike[str] | None = _option(
        None,
        "The ``coordinator.key`` that ``enqueuer keygen`` made. None: the file that ENQUEUER_KEY_FILE names, if any. "
        "With keys, everything is encrypted and only workers with a token come in; added and revoked keys count "
        "within seconds. An address beyond loopback needs keys.",
    )
    allow_pickle: bool = _option(
        False,
        "Take any Python object in batches of remote workers. Unpickling can run any code in this process, so each "
        "owner of a worker's token then owns this process; needs keys.",
    )
    insecure: bool = _option(
        False, "Allow binding beyond loopback without keys: anyone who reaches the port can feed this training job."
    )
    compression: Compression | None = _option(
        None,
        "'lz4' or 'zstd' has remote workers compress large arrays, for slow networks. Both sides need "
        "``enqueuer[compression]``: here its lack is a ConfigurationError; a worker without it says so and sends "
        "arrays as they are. Shared memory is never compressed.",
    )
    # ------------------------------------------------------------ resources
    max_bytes: int | None = _option(
        None,
        "Bound on the bytes of undelivered batches. Received batches count with their own bytes, batches still to "
        "come with the bytes of recent ones. None: no bound. Batches that you keep come on top, and so do blocks and "
        "buffers between two uses.",
        "Resources",
    )
    min_workers: int = _option(1, "Nothing is computed before this many workers are there.")
    worker_threads: int = _option(1, "BLAS, OpenMP, torch and OpenCV threads of each worker process.")
    worker_init: WorkerInit | None = _option(
        None,
        "Called once in each local worker before its Sequence is built: a callable, or 'package.module:callable'.",
    )
    max_batches_per_worker: int | None = _option(
        None, "Replace a worker process after this many batches, without loss (for code that leaks). None: never."
    )
    persistent_workers: bool = _option(
        False, "Keep local processes over ``stop()`` and ``start()``; they end with this object."
    )
    shared_memory: bool = _option(
        True, "Take large arrays (above 32 KiB) of workers on this host through shared memory; False: through sockets."
    )
    metrics_port: int | None = _option(
        None,
        "Serve Prometheus metrics at this port of 127.0.0.1 while a session runs; needs `enqueuer[metrics]`. "
        "`enqueuer metrics` serves them from outside.",
    )
    report: str | os.PathLike[str] | None = _option(
        None,
        "Write a report of each session to this HTML file when it ends: what the run did, where the time went, every "
        "fault, and what would have helped. A later session's report replaces it.",
    )
    timing: Timing = _option(DEFAULT_TIMING, "Heartbeat intervals and time-outs: a `Timing`.")

    def __post_init__(self) -> None:
        self._check_flags()
        self._check_counts()
        self._check_seconds()
        self._check_hedge()
        self._check_choices()
        self._check_shard()
        self._check_addresses()
        self._check_files()

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_flags(self) -> None:
        for name, optional in (
            ("shuffle", False),
            ("ordered", False),
            ("prefetch_epochs", True),
            ("allow_pickle", False),
            ("insecure", False),
            ("persistent_workers", False),
            ("shared_memory", False),
        ):
            value = getattr(self, name)
            if value is not None or not optional:
                self._set(name, read_flag(name, value, optional=optional))

    def _check_counts(self) -> None:
        for name, least, optional in (
            ("retries", 0, False),
            ("max_skipped", 0, False),
            ("max_bytes", 1, True),
            ("max_worker_deaths", 1, True),
            ("min_workers", 1, False),
            ("worker_threads", 1, False),
            ("max_batches_per_worker", 1, True),
            ("metrics_port", 1, True),
            ("seed", 0, True),
        ):
            value = getattr(self, name)
            if value is None and optional:
                continue
            count = as_integer(value)
            if count is None:
                raise ConfigurationError(f"{name} must be an integer{' or None' if optional else ''}, not {value!r}")
            self._set(name, count)
            if count < least:
                raise ConfigurationError(f"{name} must be at least {least}, not {value!r}")
            bits = 64 if name == "seed" else COUNT_BITS
            if count >= 2**bits:
                raise ConfigurationError(f"{name} must be below 2**{bits}, not {value!r}")

        if self.metrics_port is not None and self.metrics_port > 65_535:
            raise ConfigurationError(f"metrics_port must be a port, from 1 to 65535, not {self.metrics_port}")

    def _check_seconds(self) -> None:
        for name in ("batch_timeout", "no_worker_timeout"):
            value = getattr(self, name)
            if value is None:
                continue
            self._set(name, read_number_of_seconds(name, value, optional=True))
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigurationError(f"{name} must be above 0 seconds, or None for no limit, not {value!r}")
        if not isinstance(self.timing, Timing):
            raise ConfigurationError(f"timing must be a Timing, such as Timing(worker_timeout=5), not {self.timing!r}")

    def _check_hedge(self) -> None:
        hedge = self.hedge
        if hedge is None or (isinstance(hedge, str) and hedge in ("off", "auto")):
            return
        factor = as_float(hedge)
        if factor is None or not 1 <= factor < math.inf:
            raise ConfigurationError(f"hedge must be 'auto', 'off' or a factor of at least 1, not {hedge!r}")

    @property
    def hedge_factor(self) -> float | None:
        """How many times the 95th percentile of compute times the head of the order may take; None: any number."""
        if self.hedge is None or self.hedge == "off":
            return None
        return AUTO_HEDGE_FACTOR if self.hedge == "auto" else float(self.hedge)

    def may_retry(self, failures_count: int) -> bool:
        """Whether a batch is tried again, after its ``__getitem__`` raised this many times."""
        return failures_count <= self.retries

    def may_skip(self, skipped_count: int) -> bool:
        """Whether one more batch that failed is skipped, after this many."""
        return self.on_error == "skip" and skipped_count < self.max_skipped

    def _check_choices(self) -> None:
        for name, choices in (
            ("on_error", ("raise", "skip")),
            ("shard_remainder", ("drop", "repeat")),
            ("compression", (None, "lz4", "zstd")),
        ):
            value = getattr(self, name)
            # An array compares element by element.
            if not isinstance(value, str | None) or value not in choices:
                raise ConfigurationError(f"{name} must be one of {choices}, not {value!r}")
        init = self.worker_init
        if not (init is None or callable(init) or (isinstance(init, str) and _TARGET.fullmatch(init))):
            raise ConfigurationError(f"worker_init must be a callable or 'package.module:callable', not {init!r}")

    def _check_shard(self) -> None:
        try:
            rank, world_size = (operator.index(part) for part in self.shard)
        except (TypeError, ValueError):
            raise ConfigurationError(f"shard must be two integers (rank, world_size), not {self.shard!r}") from None
        if world_size < 1 or not 0 <= rank < world_size:
            raise ConfigurationError(f"shard needs 0 <= rank < world_size, not {self.shard!r}")
        if world_size > 1 and self.shuffle and self.seed is None:
            raise ConfigurationError(
                "shuffle=True with world_size > 1 needs the same seed=… on every rank, or the ranks' shards overlap"
            )
        self._set("shard", (rank, world_size))

    def _check_addresses(self) -> None:
        for name in ("bind", "data_bind", "advertise"):
            address = getattr(self, name)
            if address is None:
                continue
            if not is_address(address):
                raise ConfigurationError(
                    f"{name} must look like 'tcp://host:port' or 'tcp://*:0', not {address!r}{address_hint(address)}"
                )
            if name != "bind" and self.bind is None:
                raise ConfigurationError(f"{name} is for remote workers and needs bind=… as well")

    def _check_files(self) -> None:
        report = self.report
        if report is not None and not (isinstance(report, (str, os.PathLike)) and os.fspath(report)):
            raise ConfigurationError(f"report must be the path of a file to write, or None, not {report!r}")
        if self.key_file is None:
            return
        if not isinstance(self.key_file, (str, os.PathLike)):
            raise ConfigurationError(f"key_file must be a path or None, not {self.key_file!r}")
        if self.bind is None:
            raise ConfigurationError("key_file is for remote workers and needs bind=… as well")
        if self.insecure:
            raise ConfigurationError("key_file and insecure=True contradict each other: leave one of them out")


OPTION_NAMES: Final = frozenset(option.name for option in fields(Options))


def options_among(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options among a constructor's arguments: all of them, since a forgotten one would have its default."""
    return {name: value for name, value in values.items() if name in OPTION_NAMES}


# ---------------------------------------------------------------- what help() and the guide say


def option_groups() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each group's title with its options: (name, sentence), in the order of `Options`."""
    title = ""
    found: list[tuple[str, str]] = []
    for option in fields(Options):
        if option.metadata["group"] and found:
            yield title, found
            found = []
        title = option.metadata["group"] or title
        found.append((option.name, option.metadata["doc"]))
    yield title, found


def describe_options() -> str:
    """All options with their sentences, as the end of a docstring."""
    lines = []
    for title, options in option_groups():
        lines.append(f"\n{title}:")
        lines += _in_lines(options)
    return "\n".join(lines)
