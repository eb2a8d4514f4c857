"""An epoch dealt to ranks, and dealt again when their number changes in the middle of it."""

from __future__ import annotations

import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enqueuer.stream.order import permutation, shard_length
from enqueuer.stream.plan import EpochPlan, merge_done
from enqueuer.stream.ranges import Ranges
from tests.support.epoch_order import epoch_order

SEED = 5
lengths = st.integers(1, 30)
world_sizes = st.integers(1, 5)
remainders = st.sampled_from(["drop", "repeat"])


@given(lengths, world_sizes, remainders, st.booleans())
def test_a_fresh_epoch_is_dealt_round_robin(length: int, world_size: int, remainder: str, shuffle: bool) -> None:
    for rank in range(world_size):
        shard = (rank, world_size)
        plan = EpochPlan.fresh(length, shard, remainder)
        expected = epoch_order(SEED, 3, length, shuffle=shuffle, shard=shard, remainder=remainder)
        assert list(plan.order(SEED, 3, shuffle=shuffle)) == list(expected)
        assert plan.count == plan.left_count == shard_length(length, shard, remainder)


def test_a_whole_epoch_in_order_needs_no_list() -> None:
    assert EpochPlan.fresh(10**12, (0, 1), "drop").order(SEED, 0, shuffle=False) == range(10**12)


@pytest.mark.parametrize("length", [10**12, sys.maxsize])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("remainder", ["drop", "repeat"])
def test_ranks_deal_a_length_without_end_and_deal_its_rest_again(length: int, shuffle: bool, remainder: str) -> None:
    whole = permutation(SEED, 0, length, shuffle=shuffle)
    plans = [EpochPlan.fresh(length, (rank, 3), remainder) for rank in range(3)]
    for rank, plan in enumerate(plans):
        order = plan.order(SEED, 0, shuffle=shuffle)
        assert len(order) == plan.count
        assert [order[step] for step in range(50)] == [whole[rank + 3 * step] for step in range(50)]
        assert order[-1] == whole[(rank + 3 * (plan.count - 1)) % length]
    received = [(0, 40), (0, 41), (0, 40)]
    done = merge_done(
        plans[0].total, Ranges(), [(plan, Ranges([part])) for plan, part in zip(plans, received, strict=True)]
    )
    assert done.ranges == [(0, 120), (121, 122)]
    rest = EpochPlan(length, plans[0].total, (1, 2), done, taken=Ranges([(0, 2), (3, 4)]))
    order = rest.order(SEED, 0, shuffle=shuffle)
    # Rank 1 of 2 has every second of what is left, 120, 122, 123 …, without the first two of these and the fourth.
    assert [order[step] for step in range(3)] == [whole[126], whole[130], whole[132]]
    assert rest.received(Ranges([(0, 2)])).ranges == [(0, 5)]


@given(lengths, st.data())
def test_taken_batches_are_left_out_and_ordinals_count_in_the_whole_part(length: int, data: st.DataObject) -> None:
    whole = EpochPlan.fresh(length, (0, 1), "drop")
    taken = data.draw(st.sets(st.integers(0, length - 1)))
    plan = EpochPlan(length, length, (0, 1), taken=Ranges((at, at + 1) for at in taken))
    order = list(plan.order(SEED, 0, shuffle=True))
    full = list(whole.order(SEED, 0, shuffle=True))
    assert order == [index for ordinal, index in enumerate(full) if ordinal not in taken]
    opened = data.draw(st.sets(st.integers(0, max(0, len(order) - 1)), max_size=len(order)))
    received = plan.received(Ranges((at, at + 1) for at in opened))
    assert {full[ordinal] for ordinal in received} == {full[ordinal] for ordinal in taken} | {
        order[at] for at in opened
    }


@given(lengths, world_sizes, remainders, st.booleans(), st.data())
def test_any_number_of_changes_of_the_ranks_covers_every_position_once(
    length: int, world_size: int, remainder: str, ordered: bool, data: st.DataObject
) -> None:
    total = EpochPlan.fresh(length, (0, world_size), remainder).total
    delivered: Counter[int] = Counter()
    done = Ranges()
    for last in (False, False, True):
        plans = [EpochPlan(length, total, (rank, world_size), done) for rank in range(world_size)]
        assert sum(plan.count for plan in plans) == total - len(done)
        assert max(plan.count for plan in plans) - min(plan.count for plan in plans) <= 1
        parts = []
        for plan in plans:
            if last:
                received = Ranges([(0, plan.count)])
            elif ordered:
                received = Ranges([(0, data.draw(st.integers(0, plan.count)))])
            else:
                ordinals = data.draw(st.sets(st.integers(0, max(0, plan.count - 1)), max_size=plan.count))
                received = Ranges((ordinal, ordinal + 1) for ordinal in ordinals)
            order = list(plan.order(SEED, 1, shuffle=True))
            delivered.update(order[ordinal] for ordinal in received)
            parts.append((plan, received))
        done = merge_done(total, done, parts)
        world_size = data.draw(world_sizes)
    assert done.ranges == ([(0, total)] if total else [])
    order = permutation(SEED, 1, length, shuffle=True)
    assert delivered == Counter(order[position % length] for position in range(total))


@pytest.mark.parametrize("world_size", [1, 2, 7])
def test_ranks_in_step_leave_one_range(world_size: int) -> None:
    plans = [EpochPlan.fresh(1000, (rank, world_size), "drop") for rank in range(world_size)]
    done = merge_done(plans[0].total, Ranges(), [(plan, Ranges([(0, 40)])) for plan in plans])
    assert done.ranges == [(0, 40 * world_size)]
