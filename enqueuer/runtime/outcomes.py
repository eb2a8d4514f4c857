"""Outcomes: makes the batch, or the exception, of a delivered outcome, in the consumer's thread. Weighs batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from enqueuer.compute.error_records import in_place_error, rebuild_error
from enqueuer.core.actions import BatchFailed
from enqueuer.errors import BatchTimeoutError, PoisonedBatchError, SequenceError, safe_text
from enqueuer.protocol.messages import ErrorRecord, describe_exits


@dataclass(frozen=True, slots=True)
class InPlaceError(ErrorRecord):
    """An exception raised in one of the trainer's own threads: the object itself, with its traceback."""

    exception: BaseException | None = None

    @classmethod
    def of(cls, error: BaseException) -> InPlaceError:
        kind = type(error)
        return cls(kind.__module__, kind.__qualname__, safe_text(error), "", exception=error)


def build_error(failed: BatchFailed) -> BaseException:
    """The exception of a failed batch, as ``next()`` raises it."""
    where: dict[str, Any] = {
        "index": failed.index,
        "epoch": failed.epoch,
        "worker": failed.worker_id,
        "host": failed.host,
    }
    if failed.timeouts:
        return _timeout_error(failed, where)
    if failed.error is None:
        count = len(failed.deaths)
        workers = "one worker," if count == 1 else f"{count} workers, the last one"
        return PoisonedBatchError(
            f"computing batch {failed.index} of epoch {failed.epoch} killed {workers} {failed.worker_id} on "
            f"{failed.host}: {describe_exits(failed.deaths)}; it is not tried again (max_worker_deaths={count}). Mend "
            f"sequence[{failed.index}], or leave such batches out with on_error='skip'",
            **where,
        )
    if isinstance(failed.error, InPlaceError) and failed.error.exception is not None:
        return in_place_error(failed.error.exception, **where)
    # The receiver lets no pickle in from a remote worker, so one in the record is from a local process.
    return rebuild_error(failed.error, trust_local=True, **where)


def _timeout_error(failed: BatchFailed, where: dict[str, Any]) -> BatchTimeoutError:
    others = "" if failed.timeouts == 1 else f"{failed.timeouts} workers, the last one "
    stack = "it was here:" if failed.stack else "(where it was is not known)"
    return BatchTimeoutError(
        f"batch {failed.index} of epoch {failed.epoch} took longer than batch_timeout on {others}{failed.worker_id} on "
        f"{failed.host}; it is not tried again (if it is only slow, raise batch_timeout); {stack}",
        remote_traceback=failed.stack,
        **where,
    )


def build_batch(payload: Any) -> Any:
    """Build the batch. Raises SequenceError if a pickle in it, from a local worker, cannot be loaded here."""
    try:
        return payload.build()
    except Exception as error:
        raise SequenceError(
            f"a batch arrived but cannot be rebuilt here: {type(error).__name__}: {safe_text(error)}"
        ) from error


def weigh(batch: Any) -> int:
    """Roughly the bytes of a batch in this process: its arrays and texts, however nested.

    At least 1, also if looking into it fails (a list that holds itself, a property that raises).
    """
    try:
        return max(1, _weigh(batch))
    except Exception:
        return 1


def _weigh(batch: Any) -> int:
    nbytes = getattr(batch, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes
    if isinstance(batch, dict):
        return sum(map(_weigh, batch.values()))
    if isinstance(batch, (tuple, list)):
        return sum(map(_weigh, batch))
    return len(batch) if isinstance(batch, (str, bytes, bytearray)) else 0
