"""Every option, default and time-out in one frozen, validated table.

The public class makes an `Options` from its keyword arguments; nothing else reads the user's wishes.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enqueuer.errors import ConfigurationError
from enqueuer.protocol.compression import CODECS, find_codec
from enqueuer.security.curve import find_key_file
from enqueuer.security.keys import read_coordinator_key
from enqueuer.transport.addresses import is_loopback, is_tcp_address

# As ``max_queue_size``: as deep as it turns out to help.
AUTO = "auto"

# A batch that takes three times as long as 19 of 20 do is on a slow worker more often than it is a slow batch.
AUTO_HEDGE_FACTOR = 3.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals and time-outs, in seconds. The defaults suit real networks; tests shorten them."""

    heartbeat_interval: float = 1.0
    # A worker is lost after this long without any sign of life, from itself or its supervisor.
    worker_timeout: float = 10.0
    # A coordinator's thread shares a GIL with the training loop (compilation holds it for long): three times as long.
    coordinator_timeout: float = 30.0
    # How often a wait without any worker is logged.
    no_worker_warning: float = 30.0
    # stop() without an argument.
    stop: float = 10.0

    def __post_init__(self) -> None:
        for name in ("heartbeat_interval", "worker_timeout", "coordinator_timeout", "no_worker_warning", "stop"):
            # Plain, since it travels as JSON; a NumPy number does not.
            object.__setattr__(self, name, float(getattr(self, name)))
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"timing.{name} must be above 0 seconds, not {getattr(self, name)!r}")
        if self.worker_timeout < 2 * self.heartbeat_interval:
            raise ConfigurationError(
                "timing.worker_timeout must be at least two heartbeat intervals, or one late heartbeat is a death"
            )


@dataclass(frozen=True, slots=True)
class Options:
    """The keyword options of `SequenceEnqueuer`. Its docstring says what each does."""

    shuffle: bool = False
    seed: int | None = None
    ordered: bool = True
    bind: str | None = None
    data_bind: str | None = None
    advertise: str | None = None
    shard: tuple[int, int] = (0, 1)
    shard_remainder: str = "drop"
    retries: int = 0
    on_error: str = "raise"
    max_skipped: int = 100
    max_bytes: int | None = None
    max_worker_deaths: int | None = 3
    min_workers: int = 1
    hedge: str | float | None = "auto"
    batch_timeout: float | None = None
    no_worker_timeout: float | None = None
    worker_threads: int = 1
    worker_init: Callable[[], Any] | str | None = None
    max_batches_per_worker: int | None = None
    persistent_workers: bool = False
    prefetch_epochs: bool | None = None
    shared_memory: bool = True
    compression: str | None = None
    key_file: str | os.PathLike[str] | None = None
    allow_pickle: bool = False
    insecure: bool = False
    timing: Timing = field(default_factory=Timing)

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_seconds()
        self._check_hedge()
        self._check_choices()
        self._check_shard()
        self._check_keys()
        self._check_addresses()

    def _check_counts(self) -> None:
        for name, least, optional in (
            ("retries", 0, False),
            ("max_skipped", 0, False),
            ("max_bytes", 1, True),
            ("max_worker_deaths", 1, True),
            ("min_workers", 1, False),
            ("worker_threads", 1, False),
            ("max_batches_per_worker", 1, True),
            ("seed", 0, True),
        ):
            value = getattr(self, name)
            if value is None and optional:
                continue
            if isinstance(value, bool) or not hasattr(value, "__index__"):
                raise ConfigurationError(f"{name} must be an integer{' or None' if optional else ''}, not {value!r}")
            if operator.index(value) < least:
                raise ConfigurationError(f"{name} must be at least {least}, not {value!r}")
        if self.seed is not None and operator.index(self.seed) >= 2**64:
            raise ConfigurationError("seed must be below 2**64")

    def _check_seconds(self) -> None:
        for name in ("batch_timeout", "no_worker_timeout"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not hasattr(value, "__float__"):
                raise ConfigurationError(f"{name} must be a number of seconds or None, not {value!r}")
            # Plain, since it travels; a NumPy number does not.
            object.__setattr__(self, name, float(value))
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigurationError(f"{name} must be above 0 seconds, or None for no limit, not {value!r}")

    def _check_hedge(self) -> None:
        hedge = self.hedge
        if hedge is None or hedge in ("off", "auto"):
            return
        if isinstance(hedge, (bool, str)) or not hasattr(hedge, "__float__") or not 1 <= float(hedge) < math.inf:
            raise ConfigurationError(f"hedge must be 'auto', 'off' or a factor of at least 1, not {hedge!r}")

    @property
    def hedge_factor(self) -> float | None:
        """How many times the 95th percentile of compute times the head may take before it is leased again."""
        if self.hedge is None or self.hedge == "off":
            return None
        return AUTO_HEDGE_FACTOR if self.hedge == "auto" else float(self.hedge)

    def _check_choices(self) -> None:
        for name, choices in (
            ("on_error", ("raise", "skip")),
            ("shard_remainder", ("drop", "repeat")),
            ("compression", (None, *CODECS)),
        ):
            if getattr(self, name) not in choices:
                raise ConfigurationError(f"{name} must be one of {choices}, not {getattr(self, name)!r}")
        if self.compression is not None:
            try:
                find_codec(self.compression)
            except ImportError as error:
                raise ConfigurationError(str(error)) from error
        init = self.worker_init
        if not (init is None or callable(init) or (isinstance(init, str) and ":" in init)):
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

    def _check_keys(self) -> None:
        if self.key_file is not None and self.bind is None:
            raise ConfigurationError("key_file is for remote workers and needs bind=… as well")
        if self.key_file is not None and self.insecure:
            raise ConfigurationError("key_file and insecure=True contradict each other: leave one of them out")
        # The environment's is for those who bind, and a key that is there is always used.
        key_file = None if self.bind is None else find_key_file(self.key_file)
        if key_file is not None:
            # It is read again and again, wherever the trainer may have gone by then.
            key_file = str(Path(key_file).expanduser().absolute())
        object.__setattr__(self, "key_file", key_file)
        if key_file is not None:
            read_coordinator_key(key_file)
        elif self.allow_pickle:
            raise ConfigurationError(
                "allow_pickle=True lets remote workers run code in this process, so it needs bind=… and key_file=…: "
                "without keys that would be anyone who reaches the port"
            )

    def _check_addresses(self) -> None:
        for name in ("bind", "data_bind", "advertise"):
            address = getattr(self, name)
            if address is None:
                continue
            if not is_tcp_address(address):
                raise ConfigurationError(f"{name} must look like 'tcp://host:port' or 'tcp://*:0', not {address!r}")
            if name != "bind" and self.bind is None:
                raise ConfigurationError(f"{name} is for remote workers and needs bind=… as well")
            if name != "advertise" and self.key_file is None and not self.insecure and not is_loopback(address):
                raise ConfigurationError(
                    f"{name}={address!r} can be reached from other machines, and without keys anyone who reaches it "
                    "could feed this training job. Make keys with `enqueuer keygen DIR`, and pass "
                    "key_file='DIR/coordinator.key' here and --token-file DIR/worker.token to the workers; or pass "
                    "insecure=True if that network is yours alone"
                )


def read_queue_size(max_queue_size: Any) -> int | None:
    """As `start` is given it, for each run anew; None: it is found automatically. Raises TypeError or ValueError."""
    if max_queue_size == AUTO:
        return None
    problem = f"max_queue_size must be an integer or {AUTO!r}, not {max_queue_size!r}"
    if isinstance(max_queue_size, str):
        raise ValueError(problem)
    try:
        return operator.index(max_queue_size)
    except TypeError:
        raise TypeError(problem) from None
