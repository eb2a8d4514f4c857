"""What workers use, summed over the fleet: from heartbeat to heartbeat, within what can be."""

from __future__ import annotations

import pytest

from enqueuer.core.usage import FleetUsage, Told
from tests.core.driver import serving


def test_the_first_heartbeat_is_the_beginning() -> None:
    usage = FleetUsage()
    usage.note(None, Told(10.0, 99.0, 5.0, 10**9, 7.0))
    assert (usage.cpu_seconds, usage.busy_seconds, usage.read_bytes, usage.sending_seconds) == (0.0, 0.0, 0, 0.0)


def test_what_is_between_two_heartbeats_counts_however_many_were_lost() -> None:
    usage, first = FleetUsage(), Told(10.0, 3.0, 2.0, 100, 0.5)
    usage.note(first, Told(14.0, 4.5, 5.0, 1100, 1.0))
    assert (usage.cpu_seconds, usage.busy_seconds, usage.read_bytes, usage.sending_seconds) == (1.5, 3.0, 1000, 0.5)


@pytest.mark.parametrize("claimed", [1e300, float("inf"), -1.0])
def test_no_claim_counts_for_more_time_than_has_passed_or_for_less_than_none(claimed: float) -> None:
    usage = FleetUsage()
    usage.note(Told(10.0, 0.0, 0.0, 50, 0.0), Told(12.0, claimed, 1.0, 40, claimed))
    assert usage.cpu_seconds == usage.sending_seconds == (2.0 if claimed > 0 else 0.0)
    assert usage.read_bytes == 0


def test_the_coordinator_adds_up_what_its_workers_tell() -> None:
    driver, workers = serving(workers=2)
    for worker in workers:
        worker.heartbeat(cpu_seconds=1.0, memory_bytes=2**20)
        worker.answer(busy=0.5)
    driver.now += 2.0
    for worker in workers:  # what was used until the first batch does not count
        worker.heartbeat(cpu_seconds=5.0, read_bytes=10**6, memory_bytes=2**20)
    driver.now += 2.0
    for worker in workers:
        worker.answer(busy=0.75)
        worker.heartbeat(cpu_seconds=6.5, read_bytes=3 * 10**6, sending_seconds=0.25, memory_bytes=2**21)
    usage = driver.core.state.usage
    assert (usage.cpu_seconds, usage.busy_seconds, usage.sending_seconds) == (3.0, 1.5, 0.5)
    assert usage.read_bytes == 4 * 10**6
    assert [worker.record.memory_bytes for worker in workers] == [2**21, 2**21]
