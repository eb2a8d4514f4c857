"""What a turn of the core costs must not grow with the fleet: a thousand workers make as many turns as one does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tests.core.driver import Driver, Peer

_SMALL, _LARGE = 10, 100


def calls_in(function: Callable[[], object]) -> int:
    """How many Python functions it calls: a measure of its work that no busy machine changes."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def stalled(workers: int) -> Driver:
    """One worker sits on the head of the order, all others have computed what there was room for and are idle."""
    driver = Driver(max_queue_size=2 * workers, hedge=3.0, min_workers=workers)
    _, *others = join(driver, workers, 5 * workers)
    while any(other.leases for other in others):
        for other in others:
            if other.leases:
                other.answer(busy=0.02)
    assert len(driver.core.state.scheduler.idle_workers()) == workers - 1
    return driver


def queueing(workers: int) -> Driver:
    """The epoch is all leased; one worker is idle, and the leases of all others wait, but not for long."""
    driver = Driver(max_queue_size=0, hedge=3.0, min_workers=workers)
    first, *others = join(driver, workers, 6 * workers)
    for peer in (first, *others):
        peer.answer(busy=0.001)
    while first.leases:
        first.answer(busy=0.001 * len(first.leases))
    assert driver.core.state.scheduler.has_movable
    assert sum(len(peer.leases) > 1 for peer in others) > workers // 2
    return driver


def join(driver: Driver, workers: int, length: int) -> list[Peer]:
    driver.open(length)
    return [Peer(driver, number).join(length) for number in range(1, workers + 1)]


@pytest.mark.parametrize("make", [stalled, queueing])
def test_a_turn_costs_a_large_fleet_what_it_costs_a_small_one(make: Callable[[int], Driver]) -> None:
    def cost(workers: int) -> int:
        core, now = (driver := make(workers)).core, driver.now
        core.handle([], now)
        return calls_in(lambda: core.handle([], now))

    assert cost(_LARGE) <= 1.2 * cost(_SMALL)
