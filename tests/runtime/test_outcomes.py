"""Delivered outcomes become batches or exceptions in the trainer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from enqueuer import BatchTimeoutError, PoisonedBatchError, SequenceError
from enqueuer.compute.error_records import record_error
from enqueuer.core.actions import BatchFailed
from enqueuer.protocol.batch import Trust, encode_batch
from enqueuer.protocol.messages import ErrorRecord
from enqueuer.protocol.results_codec import BuiltPayload, Results, encode_results
from enqueuer.runtime.outcomes import InPlaceError, build_batch, build_error, weigh
from tests.support.results import decode_results


def failed(error: ErrorRecord | None, deaths: tuple[int, ...] = ()) -> BatchFailed:
    return BatchFailed(4, 2, "worker-1", "there", error, deaths)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unpicklable:
    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise LookupError("not here")


def test_a_threads_batch_is_handed_over_by_reference() -> None:
    batch = object()
    assert build_batch(BuiltPayload(batch, 1)) is batch


def test_a_threads_exception_is_the_object_itself_with_a_cause_that_names_the_batch() -> None:
    error = raised(ValueError("bad", 7))
    built = build_error(failed(InPlaceError.of(error)))
    assert built is error
    assert built.__traceback__ is not None
    cause = built.__cause__
    assert isinstance(cause, SequenceError)
    assert (cause.index, cause.epoch, cause.worker, cause.host) == (4, 2, "worker-1", "there")


def test_an_exception_that_cannot_be_printed_arrives_as_well() -> None:
    record = InPlaceError.of(raised(Unprintable()))
    assert record.text == "(its __str__ raised RuntimeError)"
    assert isinstance(build_error(failed(record)), Unprintable)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exception_that_would_end_the_program_becomes_a_sequence_error(error: BaseException) -> None:
    built = build_error(failed(InPlaceError.of(raised(error))))
    assert type(built) is SequenceError
    assert built.__cause__ is error


def test_a_workers_record_is_rebuilt_with_its_location() -> None:
    built = build_error(failed(record_error(raised(KeyError("k")), trust_local=True)))
    assert type(built) is KeyError and built.args == ("k",)
    assert isinstance(built.__cause__, SequenceError)
    assert built.__cause__.index == 4


def test_a_failure_without_a_record_is_a_poisoned_batch_error() -> None:
    built = build_error(failed(None, deaths=(-11, -11, 7)))
    assert isinstance(built, PoisonedBatchError)
    assert (built.index, built.epoch, built.worker, built.host) == (4, 2, "worker-1", "there")
    assert (
        "killed 3 workers, the last one worker-1 on there: was killed by SIGSEGV (2 times), ended with exit code 7"
        in str(built)
    )


def test_a_batch_that_took_too_long_everywhere_says_where_the_last_worker_was() -> None:
    stack = "Stack (most recent call first):\n  File ..., line 3 in fetch\n"
    built = build_error(BatchFailed(4, 2, "worker-1", "there", None, timeouts=2, stack=stack))
    assert isinstance(built, BatchTimeoutError)
    assert (built.index, built.epoch, built.worker, built.host) == (4, 2, "worker-1", "there")
    assert built.remote_traceback == stack
    assert "batch 4 of epoch 2 took longer than batch_timeout on 2 workers, the last one worker-1 on there" in str(
        built
    )
    assert str(built).endswith(f"it was here:\n\n{stack}")


def test_a_batch_that_took_too_long_on_a_worker_that_could_not_say_where_says_so() -> None:
    text = str(build_error(BatchFailed(4, 2, "worker-1", "there", None, timeouts=1)))
    assert "on 1 worker worker-1 on there" not in text and "on worker-1 on there" in text
    assert text.endswith("(where it was is not known)")


def test_a_batch_that_cannot_be_unpickled_is_a_sequence_error_with_the_reason() -> None:
    encoded = encode_batch(Unpicklable(), Trust.LOCAL)
    results = Results(b"i" * 16, 0, 0, 1, 0.1, (1,), [encoded])
    frames = [bytes(frame) for frame in encode_results(b"s" * 16, results)]
    _, _, (payload,) = decode_results(frames, Trust.LOCAL)
    with pytest.raises(SequenceError, match="cannot be rebuilt here: LookupError: not here") as caught:
        build_batch(payload)
    assert isinstance(caught.value.__cause__, LookupError)


class Closed:
    @property
    def nbytes(self) -> int:
        raise OSError("the file is closed")


def endless() -> list[Any]:
    batch: list[Any] = []
    batch.append(batch)
    return batch


@pytest.mark.parametrize(
    ("batch", "nbytes"),
    [
        (np.zeros(10, np.float64), 80),
        ((np.zeros(10, np.uint8), {"y": np.zeros(5, np.int16)}), 20),
        ([b"abc", "de", bytearray(4)], 9),
        (3.5, 1),
        (None, 1),
        (Closed(), 1),
        (endless(), 1),
    ],
)
def test_a_batch_weighs_what_its_arrays_hold_and_weighing_never_fails(batch: Any, nbytes: int) -> None:
    assert weigh(batch) == nbytes
