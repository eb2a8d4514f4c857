"""One round of assignments over the open epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from enqueuer.core.assignments import Assignments
from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.events import Route
from enqueuer.core.ledger import Ledger
from enqueuer.core.worker import Worker


class CountedOrder(Sequence[int]):
    """The indices from 0 on; counts how often one is looked up."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.lookups_count = 0

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, position: int) -> int: ...

    @overload
    def __getitem__(self, position: slice) -> Sequence[int]: ...

    def __getitem__(self, position: int | slice) -> int | Sequence[int]:
        self.lookups_count += 1
        return range(self._length)[position]


def a_worker(number: int = 1) -> Worker:
    incarnation = number.to_bytes(16, "big")
    return Worker(f"w{number}", incarnation, "host", 1, "remote", 1, Route("remote", b"1"), b"", 0, 0.0)


def leased_and_next(first: Sequence[int], second: Sequence[int]) -> tuple[Ledger, EpochRun, EpochRun]:
    """An epoch whose positions are all leased to one worker, and the next one."""
    ledger = Ledger()
    runs = [EpochRun(epoch, epoch, order, ordered=True, confirmed=True) for epoch, order in enumerate((first, second))]
    for run in runs:
        ledger.open(run)
    ledger.grant(a_worker(), runs[0], runs[0].take_pending(len(first)), 0.0)
    return ledger, runs[0], runs[1]


def one_round(ledger: Ledger, workers_count: int, count: int) -> list[list[int]]:
    """What each worker gets that asks for so many."""
    assignments = Assignments(ledger)
    for number in range(workers_count):
        assignments.take(a_worker(number), count)
    return [positions for _, _, positions in assignments.close()]


def test_an_index_is_held_back_until_the_earlier_epochs_item_of_it_is_done() -> None:
    ledger, earlier, later = leased_and_next([3, 4, 5], [4, 0, 3, 1, 2])
    assert one_round(ledger, 2, 2) == [[1, 3], [4]]
    assert one_round(ledger, 2, 2) == [], "those that were given are not given again"
    earlier.answer(1, "batch of index 4")
    assert one_round(ledger, 2, 2) == [[0]]
    earlier.answer(0, "batch of index 3")
    assert one_round(ledger, 1, 2) == [[2]]
    assert later.fresh_count == 0


def test_what_a_round_assigns_of_one_epoch_is_held_back_in_the_next() -> None:
    ledger, earlier, _ = leased_and_next([0, 1], [0, 1])
    earlier.unlease(0, 1)
    earlier.unlease(1, 2)
    assert one_round(ledger, 2, 2) == [[0, 1]]


def test_what_is_held_back_is_passed_once_a_round_whatever_the_number_of_workers() -> None:
    order = CountedOrder(1_000)
    ledger, _, _ = leased_and_next(range(900), order)
    assert one_round(ledger, 100, 1) == [[position] for position in range(900, 1_000)]
    assert order.lookups_count <= 2 * len(order)
    assert one_round(ledger, 100, 1) == []
    assert order.lookups_count <= 4 * len(order)
