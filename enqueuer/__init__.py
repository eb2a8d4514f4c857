"""Enqueuer: a Keras-style Sequence computed on any number of processes and machines.

    from enqueuer import SequenceEnqueuer

    with SequenceEnqueuer(sequence, use_multiprocessing=True) as enq:
        enq.start(workers=4)
        for batch in enq.epoch(): ...

Names are imported on first use: a worker's supervisor imports parts of this package and must not load NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

_HOME_OF = {
    "SequenceEnqueuer": "enqueuer.sequence_enqueuer",
    "OrderedEnqueuer": "enqueuer.sequence_enqueuer",
    "Sequence": "enqueuer.sequence",
    "SequenceSpec": "enqueuer.sequence",
    "OffenderStats": "enqueuer.monitoring.stats",
    "Stats": "enqueuer.monitoring.stats",
    "WorkerStats": "enqueuer.monitoring.stats",
    "Timing": "enqueuer.options",
    "Cause": "enqueuer.core.verdict",
    "Verdict": "enqueuer.core.verdict",
    "item_rng": "enqueuer.compute.context",
    "worker_info": "enqueuer.compute.context",
    "WorkerInfo": "enqueuer.compute.context",
    "EnqueuerError": "enqueuer.errors",
    "SequenceError": "enqueuer.errors",
    "PoisonedBatchError": "enqueuer.errors",
    "BatchTimeoutError": "enqueuer.errors",
    "NoWorkersError": "enqueuer.errors",
    "StateError": "enqueuer.errors",
    "AuthenticationError": "enqueuer.errors",
    "ProtocolError": "enqueuer.errors",
    "ConfigurationError": "enqueuer.errors",
}

__all__ = [
    "AuthenticationError",
    "BatchTimeoutError",
    "Cause",
    "ConfigurationError",
    "EnqueuerError",
    "NoWorkersError",
    "OffenderStats",
    "OrderedEnqueuer",
    "PoisonedBatchError",
    "ProtocolError",
    "Sequence",
    "SequenceEnqueuer",
    "SequenceError",
    "SequenceSpec",
    "StateError",
    "Stats",
    "Timing",
    "Verdict",
    "WorkerInfo",
    "WorkerStats",
    "item_rng",
    "worker_info",
]

if TYPE_CHECKING:
    from enqueuer.compute.context import WorkerInfo, item_rng, worker_info
    from enqueuer.core.verdict import Cause, Verdict
    from enqueuer.errors import (
        AuthenticationError,
        BatchTimeoutError,
        ConfigurationError,
        EnqueuerError,
        NoWorkersError,
        PoisonedBatchError,
        ProtocolError,
        SequenceError,
        StateError,
    )
    from enqueuer.monitoring.stats import OffenderStats, Stats, WorkerStats
    from enqueuer.options import Timing
    from enqueuer.sequence import Sequence, SequenceSpec
    from enqueuer.sequence_enqueuer import OrderedEnqueuer, SequenceEnqueuer


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'enqueuer' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
