"""The beginning of the next session of an enqueuer: after the last one, at a loaded state, under a promised seed."""

from __future__ import annotations

from typing import Any

import pytest

from enqueuer.errors import StateError
from enqueuer.options import Options
from enqueuer.runtime.bookmarks import Bookmarks
from enqueuer.runtime.trainer_sequence import TrainerSequence
from tests.support.sequences import Bare

SEQUENCE = Bare(4)


def bookmarks(**options: Any) -> Bookmarks:
    return Bookmarks(TrainerSequence(lambda: SEQUENCE), Options(**options))


def test_the_next_session_begins_after_the_epoch_of_the_last_one() -> None:
    books = bookmarks(seed=3)
    assert books.make(SEQUENCE, None).first_epoch == 0
    books.use_up(4)
    books.use_up(2)
    assert books.make(SEQUENCE, None).first_epoch == 5
    assert books.make(SEQUENCE, 1).first_epoch == 1


def test_the_seed_in_a_state_is_the_next_sessions_and_no_later_ones() -> None:
    books = bookmarks()
    named = books.state().seed
    assert books.state().seed == named
    assert books.make(SEQUENCE, None).seed == named
    assert books.make(SEQUENCE, None).seed != named


def test_a_session_that_does_not_open_leaves_the_loaded_state_to_the_next_one() -> None:
    state = bookmarks(seed=3).state().to_json()
    books = bookmarks(seed=3)
    books.load(books.read({**state, "epoch": 7}, SEQUENCE))
    before = books.begin(books.make(SEQUENCE, None))
    books.restore(before)
    assert books.make(SEQUENCE, None).first_epoch == books.state().epoch == 7


def test_a_loaded_state_is_of_one_sequence_and_one_epoch() -> None:
    books = bookmarks(seed=3)
    books.load(books.read(books.state().to_json(), SEQUENCE))
    with pytest.raises(ValueError, match="goes on in epoch 0"):
        books.make(SEQUENCE, 1)
    with pytest.raises(StateError, match="was replaced"):
        books.make(Bare(4), None)
