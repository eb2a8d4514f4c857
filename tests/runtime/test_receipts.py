"""The received positions, derived from the number of outcomes taken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enqueuer.core.actions import BatchFailed, BatchSkipped
from enqueuer.runtime.receipts import Receipts
from enqueuer.stream.ranges import Ranges


def failed(index: int, epoch: int = 0) -> BatchFailed:
    return BatchFailed(index, epoch, "worker", "host", None)


def ranges(positions: set[int]) -> Ranges:
    return Ranges((position, position + 1) for position in positions)


@given(st.integers(1, 12), st.data())
def test_receipts_count_the_taken_outcomes_however_they_were_put_and_asked_for(
    length: int, data: st.DataObject
) -> None:
    """Compared with a plain list: each epoch's positions in any order, with batches, skips and failures."""
    receipts = Receipts(5)
    story: list[tuple[int, int, Any]] = []
    taken = 0
    for epoch in (5, 6, 7):
        order = data.draw(st.permutations(range(length)))
        while order:
            size = data.draw(st.integers(1, len(order)))
            positions, order = order[:size], order[size:]
            outcomes = [
                data.draw(st.sampled_from([object(), BatchSkipped(position, epoch), failed(position, epoch)]))
                for position in positions
            ]
            receipts.note_put(epoch, positions, outcomes)
            story += [(epoch, position, outcome) for position, outcome in zip(positions, outcomes, strict=True)]
            taken = data.draw(st.integers(taken, len(story)))
            receipts.count(taken)
            check(receipts, story[:taken])


def check(receipts: Receipts, story: list[tuple[int, int, Any]]) -> None:
    received = receipts.received()
    assert received.began == bool(story)
    assert received.epoch == (story[-1][0] if story else 5)
    here = [(position, outcome) for epoch, position, outcome in story if epoch == received.epoch]
    assert received.positions == ranges({at for at, outcome in here if type(outcome) is not BatchFailed})
    skips = [outcome for _, _, outcome in story if type(outcome) is BatchSkipped]
    assert received.skipped == tuple((skip.epoch, skip.index) for skip in skips)


def test_an_outcome_taken_back_was_not_received() -> None:
    receipts = Receipts(0)
    receipts.note_put(0, range(4), ["a", "b", "c", "d"])
    receipts.count(3)
    receipts.take_back()
    assert receipts.received().positions.ranges == [(0, 2)]
    receipts.count(4)
    assert receipts.received().positions.ranges == [(0, 2), (3, 4)]


@pytest.mark.parametrize("taken", range(1, 8))
def test_an_outcome_put_back_is_counted_when_it_is_taken_again(taken: int) -> None:
    def receipts() -> Receipts:
        made = Receipts(0)
        made.note_put(0, range(3), ["a", "b", "c"])
        made.note_put(0, [4, 3], ["e", "d"])
        made.note_put(1, range(2), ["f", "g"])
        return made

    straight, interrupted = receipts(), receipts()
    interrupted.count(taken)
    interrupted.put_back()
    straight.count(taken - 1)
    if taken != 6:  # an epoch that was begun stays begun
        assert interrupted.received().positions == straight.received().positions
    for count in range(taken, 8):
        straight.count(count)
        interrupted.count(count)
        assert interrupted.received() == straight.received()


def test_a_failure_has_nothing_to_take_back() -> None:
    receipts = Receipts(0)
    receipts.take_back()
    receipts.note_put(0, range(2), ["a", failed(1)])
    receipts.count(2)
    receipts.take_back()
    assert receipts.received().positions.ranges == [(0, 1)]


def test_a_returned_receipt_does_not_change_afterwards() -> None:
    receipts = Receipts(0)
    receipts.note_put(0, range(4), ["a", "b", "c", "d"])
    receipts.count(1)
    before = receipts.received()
    receipts.count(3)
    assert before.positions.ranges == [(0, 1)]
