"""Orders that a Sequence draws: asked for in the trainer, followed in workers, checked when a state is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from enqueuer.compute.drawn_epochs import check_order, describe_order, draw_order, follow_order, length_of
from enqueuer.errors import StateError
from enqueuer.protocol.drawn_order import DrawnOrder


class Plain:
    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> int:
        return index


class Sampled(Plain):
    """Has another order in each epoch, and one batch fewer than it says."""

    def __init__(self, kind: str = "sampler") -> None:
        self.kind = kind
        self.followed: dict[int, DrawnOrder] = {}

    def _enqueuer_draw_order(self, epoch: int) -> DrawnOrder:
        return DrawnOrder.of([[(number + epoch) % 6] for number in range(6)])

    def _enqueuer_follow_order(self, epoch: int, order: DrawnOrder) -> None:
        self.followed[epoch] = order

    def _enqueuer_describe_order(self) -> dict[str, Any]:
        return {"kind": self.kind, "batch_size": 1}


class Wrapper:
    """Passes every question on."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __len__(self) -> int:
        return 7


class Accommodating(Plain):
    """Answers every question, with nothing."""

    def __getattr__(self, name: str) -> Any:
        return None


@pytest.mark.parametrize("sequence", [Sampled(), Wrapper(Sampled())])
def test_an_order_is_drawn_and_gives_the_length(sequence: Any) -> None:
    order = draw_order(sequence, 2)
    assert order is not None
    assert order.batch(0) == [2]
    assert length_of(sequence, 2) == 6


@pytest.mark.parametrize("sequence", [Plain(), Accommodating()])
def test_another_sequence_draws_none_and_has_its_own_length(sequence: Any) -> None:
    assert draw_order(sequence, 0) is None
    assert describe_order(sequence, 0) is None
    assert length_of(sequence, 0) == 7
    follow_order(sequence, 0, DrawnOrder.of([[1]]))


def test_a_worker_follows_what_was_drawn() -> None:
    sequence, order = Sampled(), DrawnOrder.of([[5]])
    follow_order(sequence, 3, order)
    assert sequence.followed == {3: order}


def test_a_description_has_a_digest_of_the_epochs_order() -> None:
    sequence = Sampled()
    first, second = describe_order(sequence, 0), describe_order(sequence, 1)
    assert first is not None and second is not None
    assert first.pop("digest") != second.pop("digest")
    assert first == second == {"kind": "sampler", "batch_size": 1}


def test_the_saved_order_is_accepted() -> None:
    sequence = Sampled()
    check_order(sequence, None, 1)
    check_order(sequence, describe_order(sequence, 1), 1)
    check_order(sequence, describe_order(sequence, 0), None)


def test_another_kind_is_refused_with_both_named() -> None:
    with pytest.raises(StateError, match="the state's order is 'batches', and this Sequence's is 'sampler'"):
        check_order(Sampled(), describe_order(Sampled("batches"), 0), None)


def test_another_order_of_the_same_kind_is_refused_in_the_middle_of_an_epoch() -> None:
    with pytest.raises(StateError, match="another order of epoch 1"):
        check_order(Sampled(), describe_order(Sampled(), 0), 1)


def test_a_sequence_without_an_order_is_refused() -> None:
    with pytest.raises(StateError, match="this Sequence is another"):
        check_order(Plain(), describe_order(Sampled(), 0), 0)
