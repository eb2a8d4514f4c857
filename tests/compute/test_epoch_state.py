"""Replaying ``on_epoch_end`` until an instance has caught up."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enqueuer.compute.epoch_state import EpochEnds, catch_up, read_epoch_ends
from enqueuer.errors import ProtocolError
from enqueuer.stream.hook_runs import EPOCH_ENDS_LIMIT
from tests.support.sequences import Bare, Reshuffling


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4))))
def test_calls_are_kept_in_order_as_runs(calls: list[tuple[int, int]]) -> None:
    ends = EpochEnds()
    for call in calls:
        ends.append(call)
    assert list(ends) == calls and len(ends) == len(calls)
    assert list(EpochEnds(ends.runs)) == calls
    assert list(read_epoch_ends([list(run) for run in ends.runs])) == calls


def test_consecutive_epochs_of_one_seed_are_one_run() -> None:
    ends = EpochEnds([[7, 0, 2]])
    for call in [(7, 2), (8, 3), (8, 4), (8, 6)]:
        ends.append(call)
    assert ends.runs == ((7, 0, 3), (8, 3, 2), (8, 6, 1))


@pytest.mark.parametrize("runs", [None, 3, [3], [[1, 2]], [["1", 2, 3]], [[1, 2, -1]], [[1, 0, EPOCH_ENDS_LIMIT + 1]]])
def test_runs_that_make_no_sense_are_a_protocol_error(runs: Any) -> None:
    with pytest.raises(ProtocolError):
        read_epoch_ends(runs)


def test_missing_calls_are_replayed_under_their_seeds_and_noted() -> None:
    first, second = Reshuffling(10), Reshuffling(10)
    noted: list[tuple[int, int]] = []
    before = random.getstate(), np.random.get_state()[1].tolist()
    catch_up(first, 3, 7, [(7, 0), (8, 1), (7, 2)], noted.append)
    assert noted == [(7, 0), (8, 1), (7, 2)]
    catch_up(second, 3, 7, [(7, 0)], noted.append)
    assert first.order.tolist() != second.order.tolist()
    catch_up(second, 3, 7, [(8, 1), (7, 2)], noted.append)
    assert first.order.tolist() == second.order.tolist()
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_a_call_that_raises_is_not_noted() -> None:
    class Failing(Bare):
        def on_epoch_end(self) -> None:
            raise OSError

    noted: list[tuple[int, int]] = []
    with pytest.raises(OSError):
        catch_up(Failing(), 1, 7, [(7, 0)], noted.append)
    assert noted == []


def test_set_epoch_is_called_under_its_seed_and_nothing_is_replayed() -> None:
    class Numbered(Reshuffling):
        def set_epoch(self, epoch: int) -> None:
            self.told = (epoch, np.random.random())

    told = []
    for _ in range(2):
        sequence = Numbered(10)
        catch_up(sequence, 4, 7, [(7, 0)], lambda _: pytest.fail("replayed"))
        told.append(sequence.told)
    assert told[0] == told[1] and told[0][0] == 4


def test_a_sequence_without_its_own_hook_is_left_alone() -> None:
    catch_up(Bare(), 1, 7, [(7, 0)], lambda _: pytest.fail("replayed"))
