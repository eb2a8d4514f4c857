"""The worker program: computes a Sequence's batches for a trainer, on the same machine or another one.

    from enqueuer_worker import run_worker

    run_worker("tcp://trainer:5555", processes="auto", sequence="myproject.data:Training")

`run_worker` is imported when it is first used: a worker process starts faster without the supervisor's modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["run_worker"]

if TYPE_CHECKING:
    from enqueuer_worker.run import run_worker


def __getattr__(name: str) -> Any:
    if name == "run_worker":
        from enqueuer_worker.run import run_worker

        return run_worker
    raise AttributeError(f"module 'enqueuer_worker' has no attribute {name!r}")
