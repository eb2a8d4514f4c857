"""A failing ``__getitem__``: the user's own exception, in its batch's place."""

from __future__ import annotations

import socket
import traceback
from pathlib import Path
from typing import Any

import pytest

from enqueuer import PoisonedBatchError, SequenceEnqueuer, SequenceError
from tests.support.failing import FAILURES, Chained, CustomError, Failing, HeldAndFailing, Unknown
from tests.support.journal import Gate, Journal
from tests.support.placement import Placement, passes, take
from tests.support.sequences import Flaky, Journaled, Killer
from tests.support.waiting import settled

ORDINARY = [name for name in FAILURES if name not in ("StopIteration", "SystemExit", "KeyboardInterrupt")]


def failure_of(running: SequenceEnqueuer, before: int = 3) -> BaseException:
    """Take ``before`` batches, and return the error of the next one."""
    stream = running.get()
    assert take(stream, before) == passes(before, 1)
    try:
        next(stream)
    except Exception as error:
        assert list(stream) == [], "the generator is finished"
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("kind", ORDINARY)
def test_an_exception_comes_out_in_its_batchs_place_with_its_type_and_args(placement: Placement, kind: str) -> None:
    running = placement.running(Failing(kind=kind), workers=1)
    error, expected = failure_of(running), FAILURES[kind](3)
    assert type(error) is type(expected)
    assert error.args == expected.args


def test_attributes_of_a_custom_exception_come_along(placement: Placement) -> None:
    error = failure_of(placement.running(Failing(kind="CustomError"), workers=1))
    assert isinstance(error, CustomError)
    assert error.code == 7


def test_the_cause_says_which_batch_failed_and_where(placement: Placement) -> None:
    cause = failure_of(placement.running(Failing(), workers=1)).__cause__
    assert isinstance(cause, SequenceError)
    assert (cause.index, cause.epoch) == (3, 0)
    assert cause.worker
    assert cause.host == socket.gethostname()


def test_the_tracebacks_text_reaches_into_the_users_code(placement: Placement) -> None:
    error = failure_of(placement.running(Failing(), workers=1))
    text = "".join(traceback.format_exception(error))
    assert "failing.py" in text
    assert "deep_inside_user_code" in text
    if placement.separate:  # a thread's traceback is a real one
        assert isinstance(error.__cause__, SequenceError)
        assert "deep_inside_user_code" in error.__cause__.remote_traceback


def test_the_users_own_cause_is_kept_below(placement: Placement) -> None:
    error = failure_of(placement.running(Chained(), workers=1), before=0)
    assert isinstance(error, CustomError)
    assert isinstance(error.__cause__, SequenceError)
    reason = error.__cause__.__cause__
    assert isinstance(reason, KeyError)
    assert reason.args == ("the reason",)


def test_an_exception_class_unknown_to_the_trainer_is_a_sequence_error(remote: Placement) -> None:
    error = failure_of(remote.running(Unknown()), before=0)
    assert type(error) is SequenceError
    assert "OnlyHereError" in str(error)
    assert "unknown elsewhere" in str(error)


def test_stop_iteration_becomes_a_runtime_error(placement: Placement) -> None:
    assert type(failure_of(placement.running(Failing(kind="StopIteration"), workers=1))) is RuntimeError


@pytest.mark.proves("`__getitem__` raises `SystemExit` or `KeyboardInterrupt`")
@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt"])
def test_an_exception_that_would_end_a_program_is_a_sequence_error(placement: Placement, kind: str) -> None:
    error = failure_of(placement.running(Failing(kind=kind), workers=1))
    assert type(error) is SequenceError
    assert error.index == 3
    assert kind in str(error)


@pytest.mark.proves("`__getitem__` raises")
def test_after_an_error_the_enqueuer_is_stopped_and_can_be_started_again(placement: Placement) -> None:
    running = placement.running(Failing())
    failure_of(running)
    assert not running.is_running()
    assert list(running.get()) == []
    running.stop()
    placement.start(running)
    assert [index for _, index in take(running.get(), 3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="bad"):
        next(running.get())


def test_an_error_in_a_later_epoch_names_that_epoch(threads: Placement) -> None:
    class LateFailing(Journaled):
        def batch(self, index: int) -> Any:
            if self.version == 2:
                raise ValueError("late")
            return super().batch(index)

    stream = threads.running(LateFailing(length=2)).get()
    assert take(stream, 4) == passes(2, 2)
    with pytest.raises(ValueError, match="late") as caught:
        next(stream)
    cause = caught.value.__cause__
    assert isinstance(cause, SequenceError)
    assert cause.epoch == 2


def test_unordered_an_error_is_raised_when_it_arrives(placement: Placement, gate: Gate) -> None:
    running = placement.running(HeldAndFailing(gate=gate.path, last_held=0), workers=2, ordered=False)
    with pytest.raises(ValueError, match="not held"):
        take(running.get(), 8)
    assert not Path(gate.path).exists()
    assert not running.is_running()


def test_retries_compute_a_failed_batch_again(placement: Placement, journal: Journal) -> None:
    sequence = Flaky(length=6, journal=journal.path, bad=(1, 4), failures=2)
    running = placement.running(sequence, retries=2)
    assert take(running.get(), 6) == passes(6, 1)
    assert running.stats().retries_count == 4


def test_one_failure_more_than_retries_is_raised(placement: Placement, journal: Journal) -> None:
    # One worker, so that no batch moves to an idle one and is begun by both; the remote ones are two.
    running = placement.running(Flaky(length=6, journal=journal.path, bad=(3,), failures=3), workers=1, retries=2)
    error = failure_of(running)
    assert error.args == ("not yet", 3)
    attempts_count = journal.requested(version=0).count(3)
    assert attempts_count == 3 or (placement.name == "remote" and attempts_count > 3)


def test_skipped_batches_are_left_out_and_counted(placement: Placement, journal: Journal) -> None:
    running = placement.running(Failing(length=6, journal=journal.path, bad=(2, 5)), on_error="skip")
    assert take(running.get(), 8) == [(version, index) for version in range(2) for index in (0, 1, 3, 4)]
    # In their order, and a few of those that were not taken yet.
    assert running.stats().skipped[:3] == ((0, 2), (0, 5), (1, 2))


def test_one_more_than_max_skipped_is_raised(placement: Placement) -> None:
    running = placement.running(Failing(length=6, bad=(2, 4)), on_error="skip", max_skipped=1)
    stream = running.get()
    assert take(stream, 3) == [(0, 0), (0, 1), (0, 3)]
    with pytest.raises(ValueError, match="bad") as caught:
        next(stream)
    assert caught.value.args == ("bad", 4)


def test_a_batch_that_kills_every_worker_is_poisoned_in_its_place(processes: Placement, journal: Journal) -> None:
    # One at a time, so that no batch moves to an idle one and is begun by both.
    killer = Killer(length=6, journal=journal.path, fatal=3, deaths=100)
    running = processes.running(killer, workers=1, max_queue_size=2, max_worker_deaths=2)
    error = failure_of(running)
    assert isinstance(error, PoisonedBatchError)
    assert error.index == 3
    assert settled(lambda: journal.requested().count(3)) == 2


def test_a_sequence_that_cannot_be_pickled_works_with_threads(threads: Placement) -> None:
    assert take(threads.running(Unpicklable(length=2)).get(), 4) == passes(2, 2)


def test_a_sequence_that_cannot_be_pickled_is_a_clear_error_with_processes(processes: Placement) -> None:
    made = processes.enqueuer(Unpicklable(length=2))
    with pytest.raises(Exception, match=r"(?i)pickle") as caught:
        processes.start(made)
    text = "".join(traceback.format_exception(caught.value))
    assert "use_multiprocessing=False" in text or "SequenceSpec" in text, "it says what to do"
    assert not made.is_running()


class Unpicklable(Journaled):
    """Holds a lock, which cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle an open connection")
