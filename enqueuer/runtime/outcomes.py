"""From an outcome that was delivered to the batch, or the exception, that the trainer sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from enqueuer.compute.error_records import in_place_error, rebuild_error
from enqueuer.core.actions import BatchFailed
from enqueuer.errors import BatchTimeoutError, PoisonedBatchError, SequenceError
from enqueuer.protocol.messages import ErrorRecord


@dataclass(frozen=True, slots=True)
class InPlaceError(ErrorRecord):
    """An exception that one of the trainer's own threads raised: the object itself, with its traceback."""

    exception: BaseException | None = None

    @classmethod
    def of(cls, error: BaseException) -> InPlaceError:
        kind = type(error)
        try:
            text = f"{kind.__qualname__}: {error}"
        except Exception:  # the user's own __str__
            text = kind.__qualname__
        return cls(kind.__module__, kind.__qualname__, text, "", exception=error)


def build_error(failed: BatchFailed) -> BaseException:
    """What to raise for a batch that failed."""
    where: dict[str, Any] = {
        "index": failed.index,
        "epoch": failed.epoch,
        "worker": failed.worker_id,
        "host": failed.host,
    }
    if failed.timeouts:
        return _timeout_error(failed, where)
    if failed.error is None:
        return PoisonedBatchError(
            f"computing batch {failed.index} of epoch {failed.epoch} killed {failed.deaths} workers, the last one "
            f"{failed.worker_id} on {failed.host}; it is not tried again (max_worker_deaths={failed.deaths})",
            **where,
        )
    if isinstance(failed.error, InPlaceError) and failed.error.exception is not None:
        return in_place_error(failed.error.exception, **where)
    # The I/O loop lets no pickle in from a remote worker, so what a record still carries is our own process's.
    return rebuild_error(failed.error, trust_local=True, **where)


def _timeout_error(failed: BatchFailed, where: dict[str, Any]) -> BatchTimeoutError:
    others = "" if failed.timeouts == 1 else f"{failed.timeouts} workers, the last one "
    place = "it was here:" if failed.stack else "(where it was is not known)"
    return BatchTimeoutError(
        f"batch {failed.index} of epoch {failed.epoch} took longer than batch_timeout on {others}{failed.worker_id} on "
        f"{failed.host}; it is not tried again (if it is only slow, raise batch_timeout); {place}",
        remote_traceback=failed.stack,
        **where,
    )


def build_batch(payload: Any) -> Any:
    """The batch; a SequenceError if what a local worker pickled cannot be unpickled here."""
    try:
        return payload.build()
    except Exception as error:
        raise SequenceError(f"a batch arrived but cannot be rebuilt here: {type(error).__name__}: {error}") from error


def weigh(batch: Any) -> int:
    """Roughly how many bytes a batch in this process holds: its arrays, and what they are nested in.

    At least 1, also for one that cannot be looked into (a list that holds itself, a property that raises).
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
