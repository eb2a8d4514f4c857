"""Hundreds of seeded fault schedules through the real cores; `python -m tests.simulation.run` does any number."""

from __future__ import annotations

import pytest

from tests.support.simulation.cluster import ScheduleFailed, check_schedule, run_schedule, tell_schedule
from tests.support.simulation.scenario import FLAVOURS, Scenario
from tests.support.simulation.trainer_host import TrainerHost

SCHEDULES_PER_FLAVOUR = 50


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_epoch_is_delivered_exactly_once_whatever_goes_wrong(flavour: str) -> None:
    first = FLAVOURS.index(flavour)
    for seed in range(first, first + SCHEDULES_PER_FLAVOUR * len(FLAVOURS), len(FLAVOURS)):
        assert Scenario.from_seed(seed).flavour == flavour
        check_schedule(seed)


def test_epochs_that_end_early_are_among_the_schedules() -> None:
    seeds = [seed for seed in range(len(FLAVOURS), 2 * len(FLAVOURS)) if Scenario.from_seed(seed).early_end]
    assert len(seeds) == len(FLAVOURS)
    assert any(run_schedule(seed, told=False).world.trainer.early_ends_count for seed in seeds)


def test_a_seed_tells_the_same_story_each_time() -> None:
    seed = FLAVOURS.index("storm")
    assert tell_schedule(seed) == tell_schedule(seed)
    assert tell_schedule(seed) != tell_schedule(seed + len(FLAVOURS))


def test_telling_the_story_changes_nothing_in_it() -> None:
    for seed in range(len(FLAVOURS)):
        told, untold = run_schedule(seed, told=True), run_schedule(seed)
        assert told.world.clock.now == untold.world.clock.now


def test_a_failure_prints_its_seed_its_story_and_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose_delivery(_host: TrainerHost, _action: object) -> None:
        """Break the trainer: it never delivers a batch."""

    monkeypatch.setattr(TrainerHost, "_take_delivery", lose_delivery)
    with pytest.raises(ScheduleFailed, match=r"(?s)seed 0: .*STUCK.*Heartbeat\(.*tests.simulation.run --seed 0"):
        check_schedule(0)
