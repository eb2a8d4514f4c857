"""TensorFlow's `OrderedEnqueuer`: the same class, with one more positional argument.

Its constructor lists every option again, so that editors, type checkers and ``help()`` see each of them. A test holds
both lists against `Options`.
"""

from __future__ import annotations

import os
from typing import Any

from enqueuer.argument_names import with_options
from enqueuer.options import (
    DEFAULT_TIMING,
    Compression,
    Hedge,
    OnError,
    ShardRemainder,
    Timing,
    WorkerInit,
)
from enqueuer.sequence_enqueuer import SequenceEnqueuer


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
            TypeError: ``sequence`` lacks something, or an option is unknown; the text says what.
            ConfigurationError: an option that cannot be; the text names it. Also a ValueError.
        """
        super().__init__(
            sequence,
            use_multiprocessing,
            shuffle=shuffle,
            seed=seed,
            ordered=ordered,
            shard=shard,
            shard_remainder=shard_remainder,
            prefetch_epochs=prefetch_epochs,
            retries=retries,
            on_error=on_error,
            max_skipped=max_skipped,
            max_worker_deaths=max_worker_deaths,
            hedge=hedge,
            batch_timeout=batch_timeout,
            no_worker_timeout=no_worker_timeout,
            bind=bind,
            data_bind=data_bind,
            advertise=advertise,
            key_file=key_file,
            allow_pickle=allow_pickle,
            insecure=insecure,
            compression=compression,
            max_bytes=max_bytes,
            min_workers=min_workers,
            worker_threads=worker_threads,
            worker_init=worker_init,
            max_batches_per_worker=max_batches_per_worker,
            persistent_workers=persistent_workers,
            shared_memory=shared_memory,
            metrics_port=metrics_port,
            report=report,
            timing=timing,
        )
