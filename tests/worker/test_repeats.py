"""Notes that repeat themselves: one full line a cause, then counts at growing intervals."""

from __future__ import annotations

import logging

import pytest

from enqueuer_worker.repeats import RepeatedNotes


@pytest.fixture
def notes() -> RepeatedNotes:
    return RepeatedNotes(logging.getLogger("enqueuer.worker.test"))


def test_a_cause_is_told_in_full_once_and_then_counted_ever_more_rarely(
    notes: RepeatedNotes, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(3600):
        notes.note(logging.ERROR, "the door is shut", "; open it", float(second))
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "the door is shut; open it"
    assert told[1:4] == [
        "still: the door is shut (11 times in 10 s)",
        "still: the door is shut (31 times in 30 s)",
        "still: the door is shut (71 times in 70 s)",
    ]
    assert len(told) == 11, "in the end every ten minutes"
    assert all(record.levelno == logging.ERROR for record in caplog.records)


def test_another_cause_is_told_at_once(notes: RepeatedNotes, caplog: pytest.LogCaptureFixture) -> None:
    for cause in ("the door is shut", "the house is gone", "the door is shut"):
        notes.note(logging.ERROR, cause, "", 0.0)
    assert [record.getMessage() for record in caplog.records] == ["the door is shut", "the house is gone"]


def test_the_lines_below_the_first_of_a_rejection_are_told_once(
    notes: RepeatedNotes, caplog: pytest.LogCaptureFixture
) -> None:
    for second in (0.0, 10.0):
        notes.note_rejection("ValueError: no data\nTraceback\n  line 3", second)
    assert [record.getMessage() for record in caplog.records] == [
        "the trainer rejected this worker: ValueError: no data\nTraceback\n  line 3",
        "still: the trainer rejected this worker: ValueError: no data (2 times in 10 s)",
    ]


def test_after_an_accepted_session_all_is_told_anew(notes: RepeatedNotes, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        notes.note(logging.ERROR, "the door is shut", "; open it", 0.0)
        notes.forget()
    assert caplog.text.count("; open it") == 2


def test_the_memory_for_causes_is_bounded(notes: RepeatedNotes) -> None:
    for number in range(1_000):
        notes.note(logging.DEBUG, f"cause {number}", "", 0.0)
    assert len(notes._causes) <= 100
