"""A rank's progress as JSON: written and read back, refused with a reason, merged from all ranks."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enqueuer.errors import StateError
from enqueuer.stream.order import LISTED_LENGTH
from enqueuer.stream.plan import EpochPlan
from enqueuer.stream.ranges import Ranges
from enqueuer.stream.state import ResumeState, check_agreement, read_states, reshard


def state(
    taken_count: int = 3, *, epoch: int = 2, shard: tuple[int, int] = (0, 1), length: int = 12, **more: Any
) -> Any:
    total = EpochPlan.fresh(length, shard, "drop").total
    one = ResumeState(7, epoch, length, True, shard, "drop", total)
    return replace(one, **{"taken": Ranges([(0, taken_count)]), **more})


FULL = state(
    done=Ranges([(0, 2), (4, 5)]),
    taken=Ranges([(0, 3), (5, 6)]),
    epoch_end=False,
    next_length=14,
    epoch_ends=((7, 0, 2),),
    skipped=((1, 4), (2, 0)),
    skipped_count=5,
    sequence={"rng": [1, 2, None]},
)


def ranks(*taken: int, **more: Any) -> list[ResumeState]:
    return [state(count, shard=(rank, len(taken)), **more) for rank, count in enumerate(taken)]


def positions_of(one: ResumeState) -> list[int]:
    """The positions left for this rank, which are the indices of an epoch that is not shuffled."""
    return list(one.plan.order(0, 0, shuffle=False))


def test_a_state_is_the_same_after_json() -> None:
    assert read_states(json.loads(json.dumps(FULL.to_json()))) == [FULL]
    assert read_states([FULL.to_json(), state().to_json()]) == [FULL, state()]


def test_a_million_batches_with_a_hundred_skips_are_below_four_kilobytes() -> None:
    length = 10**6
    skips = tuple((999_999, length - 1 - number) for number in range(150))
    big = state(length - 5, length=length, seed=2**64 - 1, epoch=10**6, epoch_ends=((2**64 - 1, 0, 10**6),))
    text = json.dumps(replace(big, skipped=skips, skipped_count=150).to_json())
    assert len(text) < 4096
    (read,) = read_states(json.loads(text))
    assert read.skipped == skips[-100:]


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("version", 2, "version 2, but this library reads version 1"),
        ("version", True, "version True"),
        ("seed", "7", "seed must be an integer or null, not '7'"),
        ("seed", None, "seed is null, but something was received"),
        ("seed", -1, "seed must be at least 0"),
        ("epoch", 1.0, "epoch must be an integer, not 1.0"),
        ("epoch", 2**63, "epoch must be at least 0 and below"),
        ("length", 0, "length must be at least 1"),
        ("shuffle", 1, "shuffle must be true or false, not 1"),
        ("shard", 3, "shard must hold lists of 2 integers, not 3"),
        ("shard", [1, 1], "shard must be [rank, world_size] with rank below world_size, not [1, 1]"),
        ("shard_remainder", "keep", "shard_remainder must be 'drop' or 'repeat', not 'keep'"),
        ("total", 10**9, "total must be at least 1 and below"),
        ("done", [[0, 3], [3, 4]], "done must hold ascending ranges within 0 and 12"),
        ("done", [[4, 2]], "done must hold ascending ranges"),
        ("taken", [[0, 99]], "taken must hold ascending ranges within 0 and 9"),
        ("taken", {"0": 3}, "taken must be a list, not {'0': 3}"),
        ("taken", [[0, "3"]], "taken must hold lists of 2 integers, not [0, '3']"),
        ("epoch_end", None, "epoch_end must be true or false"),
        ("next_length", "x", "next_length must be an integer or null"),
        ("epoch_ends", [[7, 0]], "epoch_ends must hold lists of 3 integers"),
        ("epoch_ends", [[7, 0, 10**7]], "epoch_ends has more than 1000000 calls"),
        ("epoch_ends", [[7, 2**63, 5]], "epoch_ends has epochs beyond"),
        ("skipped", [[1, 2]] * 6, "skipped has 6 entries, skipped_count is 5"),
        ("skipped_count", None, "skipped_count must be an integer, not None"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: Any, reason: str) -> None:
    with pytest.raises(StateError, match=re.escape(reason)):
        read_states({**FULL.to_json(), name: value})


@pytest.mark.parametrize("name", [name for name in FULL.to_json() if name != "order"])
def test_a_missing_value_is_named(name: str) -> None:
    cut = {key: value for key, value in FULL.to_json().items() if key != name}
    with pytest.raises(StateError, match=f"state 1 of the list: {name} is missing"):
        read_states([FULL.to_json(), cut])


def test_a_state_of_an_older_library_within_a_long_shuffled_epoch_is_refused() -> None:
    def older(**fields: Any) -> Any:
        saved = state(**fields).to_json()
        del saved["order"]
        return saved

    with pytest.raises(StateError, match="older library saved this within a shuffled epoch of 1048577 batches"):
        read_states(older(length=LISTED_LENGTH + 1))
    for saved in (
        older(length=LISTED_LENGTH),
        older(length=LISTED_LENGTH + 1, shuffle=False),
        older(length=LISTED_LENGTH + 1, taken_count=0),
        older(length=LISTED_LENGTH + 1, taken_count=LISTED_LENGTH + 1),
        state(length=LISTED_LENGTH + 1).to_json(),
    ):
        assert read_states(saved)


@pytest.mark.parametrize("value", [None, 7, "{}", b"", [], [3], {}])
def test_a_value_that_is_not_a_state_is_refused(value: Any) -> None:
    with pytest.raises(StateError):
        read_states(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([*FULL.to_json()]), json_values)
def test_any_value_of_a_field_is_read_or_refused(name: str, value: Any) -> None:
    try:
        (read,) = read_states({**FULL.to_json(), name: value})
    except StateError:
        return
    assert read_states(read.to_json()) == [read]


@given(json_values)
def test_any_other_json_raises_state_error(value: Any) -> None:
    with pytest.raises(StateError):
        read_states(value)


# ---------------------------------------------------------------- all ranks


def merged(states: list[ResumeState], world_size: int) -> list[ResumeState]:
    agreed = check_agreement(states)
    return [reshard(states, agreed, (rank, world_size)) for rank in range(world_size)]


@pytest.mark.parametrize(
    "states",
    [
        [state(shard=(0, 2))],
        [state(shard=(0, 2)), state(shard=(0, 2))],
        [state(shard=(0, 2)), state(shard=(1, 3))],
        [*ranks(1, 1), state(1, shard=(1, 2))],
    ],
)
def test_states_with_a_missing_or_repeated_rank_are_refused(states: list[ResumeState]) -> None:
    with pytest.raises(StateError, match="not the states of all ranks of one run"):
        check_agreement(states)


@pytest.mark.parametrize(
    ("name", "value"), [("seed", 8), ("shuffle", False), ("shard_remainder", "repeat"), ("length", 13), ("total", 13)]
)
def test_ranks_that_differ_are_refused_by_name(name: str, value: Any) -> None:
    first, second = ranks(2, 2)
    with pytest.raises(StateError, match=f"differ in {name}: .* of rank 0, .* of rank 1"):
        check_agreement([first, replace(second, **{name: value})])


def test_the_remaining_positions_are_dealt_to_the_new_ranks() -> None:
    first, second, third = merged(ranks(2, 2), 3)
    assert first.done == second.done == Ranges([(0, 4)])
    assert [positions_of(one) for one in (first, second, third)] == [
        [4, 7, 10],
        [5, 8, 11],
        [6, 9],
    ]


def test_an_epoch_without_received_batches_is_begun_by_the_new_ranks_as_their_own() -> None:
    (alone,) = merged(ranks(0, 0, 0, 0, 0), 1)
    assert (alone.total, alone.untouched) == (12, True)


def test_the_end_of_an_epoch_and_the_beginning_of_the_next_are_the_same_point() -> None:
    over = state(6, shard=(0, 2), epoch=2, epoch_end=True, epoch_ends=((7, 0, 3),))
    begun = state(0, shard=(1, 2), epoch=3, epoch_ends=((7, 0, 3),))
    (alone,) = merged([over, begun], 1)
    assert (alone.epoch, alone.untouched, alone.epoch_ends) == (3, True, ((7, 0, 3),))


def test_a_rank_may_be_at_the_end_while_another_has_begun_the_next() -> None:
    over = state(6, shard=(0, 2), epoch=2, epoch_ends=((7, 0, 2),))
    ahead = state(2, shard=(1, 2), epoch=3, epoch_ends=((7, 0, 3),))
    for order in ([over, ahead], [ahead, over]):
        (alone,) = merged(order, 1)
        assert (alone.epoch, alone.done, alone.epoch_ends) == (3, Ranges([(1, 2), (3, 4)]), ((7, 0, 3),))


def test_a_rank_that_had_nothing_left_waits_at_the_next_epoch() -> None:
    behind = state(5, shard=(0, 2), epoch=2, epoch_ends=((7, 0, 2),))
    waiting = state(0, shard=(1, 2), epoch=3, epoch_ends=((7, 0, 3),))
    (alone,) = merged([behind, waiting], 1)
    assert (alone.epoch, alone.epoch_ends, positions_of(alone)) == (2, ((7, 0, 2),), [10])


def test_an_epoch_that_is_not_over_for_all_is_resumed_before_its_end() -> None:
    ended = state(6, shard=(0, 2), epoch_end=True, epoch_ends=((7, 0, 3),))
    behind = state(5, shard=(1, 2), epoch_ends=((7, 0, 2),))
    (alone,) = merged([ended, behind], 1)
    assert (alone.epoch_end, alone.epoch_ends, positions_of(alone)) == (
        False,
        ((7, 0, 2),),
        [11],
    )


def test_if_all_ranks_are_at_the_end_the_state_after_the_hook_counts() -> None:
    ended = state(6, shard=(0, 2), epoch_end=True, epoch_ends=((7, 0, 3),))
    waiting = state(6, shard=(1, 2), epoch_ends=((7, 0, 2),))
    for one in merged([waiting, ended], 3):
        assert (one.epoch_is_over, one.epoch_end, one.epoch_ends) == (True, True, ((7, 0, 3),))


def test_a_rank_may_be_ahead_by_a_whole_epoch_of_one_batch() -> None:
    over = state(1, shard=(0, 2), length=2, epoch=2, epoch_end=True, epoch_ends=((7, 0, 3),))
    ahead = state(1, shard=(1, 2), length=2, epoch=3, epoch_end=True, epoch_ends=((7, 0, 4),))
    (alone,) = merged([over, ahead], 1)
    assert (alone.epoch, alone.epoch_end, alone.epoch_ends) == (3, False, ((7, 0, 3),))
    assert positions_of(alone) == [0]
    with pytest.raises(StateError, match="rank 1 is in epoch 3 and rank 0 is still in epoch 2"):
        merged([replace(over, epoch_end=False), ahead], 1)


@pytest.mark.parametrize("epoch", [3, 4])
def test_ranks_further_apart_are_refused(epoch: int) -> None:
    with pytest.raises(StateError, match=f"rank 1 is in epoch {epoch} and rank 0 is still in epoch 2"):
        check_agreement([state(2, shard=(0, 2)), state(1, shard=(1, 2), epoch=epoch)])


def test_each_skip_goes_to_one_of_the_new_ranks() -> None:
    first, second = ranks(2, 2)
    first = replace(first, skipped=((0, 4), (1, 3)), skipped_count=3)
    second = replace(second, skipped=((0, 5),), skipped_count=1)
    made = merged([first, second], 3)
    assert [one.skipped_count for one in made] == [2, 1, 1]
    assert sorted(skip for one in made for skip in one.skipped) == [(0, 4), (0, 5), (1, 3)]
    for one in made:
        assert read_states(one.to_json()) == [one]


def test_a_state_of_an_older_library_says_nothing_of_the_order() -> None:
    cut = {key: value for key, value in FULL.to_json().items() if key != "order"}
    (state,) = read_states(cut)
    assert state.order is None
    with pytest.raises(StateError, match="order must be a dict or null"):
        read_states({**cut, "order": "shuffled"})
