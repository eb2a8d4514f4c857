"""Remote worker programs join and leave in the middle of an epoch."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from enqueuer import Timing
from tests.support.chaos import Chaos, kill_with_children
from tests.support.chaos_sequences import Steady
from tests.support.leaks import descendants
from tests.support.waiting import wait_until

RecordGap = Callable[[str, float], None]

JOINS = "a worker joins"
LEAVES = "a worker leaves (SIGTERM)"
_LONGEST_GAP = Timing().worker_timeout + 1


@pytest.mark.proves(JOINS)
def test_a_program_that_joins_in_the_middle_gets_work(chaos: Chaos, record_gap: RecordGap) -> None:
    run = chaos.run(Steady(length=100), local=1, epochs=None, bind="tcp://127.0.0.1:*")
    run.wait_for_taken(20)
    joined = chaos.remote(str(run.enqueuer.endpoint), 2)
    run.wait_for_workers(3)
    run.wait_for_more(40)
    tally = run.finish()
    record_gap(JOINS, tally.longest_gap)
    assert tally.longest_gap <= _LONGEST_GAP
    assert len(tally.pids & descendants(joined.pid)) == 2


@pytest.mark.proves(LEAVES)
def test_a_program_that_is_asked_to_leave_finishes_its_leases_and_another_replaces_it(
    chaos: Chaos, record_gap: RecordGap
) -> None:
    run = chaos.run(Steady(length=100), local=0, remote=2, epochs=None)
    run.wait_for_taken(20)
    (first,) = chaos.remotes
    chaos.remote(str(run.enqueuer.endpoint), 2)
    run.wait_for_workers(4)
    os.kill(first.pid, signal.SIGTERM)
    wait_until(lambda: not first.alive(), what="the end of the program that drains")
    assert first.stop() == 0
    run.wait_for_workers(2)
    run.wait_for_more(40)
    tally = run.finish()
    record_gap(LEAVES, tally.longest_gap)
    assert tally.longest_gap <= _LONGEST_GAP
    assert run.stats.lost_workers_count == 0


@pytest.mark.proves("no worker is there")
def test_without_any_worker_the_stream_waits_and_goes_on_with_the_first_that_comes(chaos: Chaos) -> None:
    timing = Timing(heartbeat_interval=0.5, worker_timeout=2)
    run = chaos.run(Steady(length=100), local=0, remote=2, timing=timing)
    run.wait_for_taken(20)
    (first,) = chaos.remotes
    kill_with_children(first.pid)
    run.wait_for_workers(0)
    chaos.remote(str(run.enqueuer.endpoint), 1)
    run.finish()
