"""SIGKILL of workers and supervisors: no batch is lost or repeated, and the stream hardly stops."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from enqueuer import Timing
from tests.support.chaos import Chaos, Run, kill, kill_with_children, pause
from tests.support.chaos_sequences import Steady
from tests.support.leaks import alive, descendants
from tests.support.waiting import wait_until

RecordGap = Callable[[str, float], None]

KILLED = "a worker is killed"
SUPERVISOR_KILLED = "a supervisor is killed"
_KILLS = 6
# A supervisor reports its worker's death at once; a death that only a time-out showed would take five times as long.
# (On an idle machine the gap is a tenth of a second: `make recovery`.)
_LONGEST_GAP = Timing().worker_timeout / 5


def kill_one_after_another(run: Run, workers: int, random_source: random.Random) -> None:
    """Kill workers one after another, each at a random time of its item and with the fleet complete."""
    for _ in range(_KILLS):
        pids = run.wait_for_workers(workers)
        pause(random_source.uniform(0.0, 0.04))
        victim = random_source.choice(pids)
        kill(victim)
        run.wait_for_workers(workers, apart_from=victim)


# A process that is killed again and again while it is idle is started again ever later, up to 5 s.
@pytest.mark.timeout(240)
@pytest.mark.proves(KILLED)
@pytest.mark.parametrize(("local", "remote"), [(2, 0), (0, 2)], ids=["local", "remote"])
def test_workers_killed_six_times_cost_no_batch_and_hardly_any_time(
    chaos: Chaos, record_gap: RecordGap, local: int, remote: int
) -> None:
    run = chaos.run(Steady(length=100), local=local, remote=remote, epochs=None)
    run.wait_for_taken(10)
    kill_one_after_another(run, 2, random.Random(10))
    tally = run.finish()
    record_gap(KILLED, tally.longest_gap)
    assert run.stats.lost_workers_count == _KILLS
    assert tally.longest_gap <= _LONGEST_GAP


@pytest.mark.proves(KILLED)
def test_a_lone_worker_that_is_killed_is_replaced(chaos: Chaos) -> None:
    run = chaos.run(Steady(length=60), local=1)
    run.wait_for_taken(10)
    (victim,) = run.worker_pids()
    kill(victim)
    run.wait_for_workers(1, apart_from=victim)
    assert victim not in run.worker_pids()
    assert run.finish().longest_gap <= Timing().worker_timeout + 1


@pytest.mark.parametrize("ordered", [True, False])
def test_all_workers_killed_at_once_are_replaced(chaos: Chaos, ordered: bool) -> None:
    run = chaos.run(Steady(length=200), local=2, remote=2, ordered=ordered)
    run.wait_for_taken(10)
    for victim in run.worker_pids():
        kill(victim)
    assert run.finish().longest_gap <= Timing().worker_timeout + 1


@pytest.mark.proves(SUPERVISOR_KILLED)
@pytest.mark.parametrize("how", [kill, kill_with_children], ids=["alone", "with its children"])
def test_a_local_supervisor_that_is_killed_is_replaced_with_its_workers(
    chaos: Chaos, record_gap: RecordGap, how: Callable[[int], None]
) -> None:
    run = chaos.run(Steady(length=120), epochs=None)
    run.wait_for_taken(10)
    supervisor, workers = run.local_supervisor(), set(run.worker_pids())
    how(supervisor)
    wait_until(lambda: not alive({supervisor, *workers}), deadline=2.0, what="the end of its children")
    run.wait_for_workers(2)
    tally = run.finish()
    record_gap(SUPERVISOR_KILLED, tally.longest_gap)
    assert tally.longest_gap <= Timing().worker_timeout + 1


@pytest.mark.proves(SUPERVISOR_KILLED)
@pytest.mark.parametrize("how", [kill, kill_with_children], ids=["alone", "with its children"])
def test_a_remote_supervisor_that_is_killed_takes_its_workers_along_and_may_be_started_again(
    chaos: Chaos, record_gap: RecordGap, how: Callable[[int], None]
) -> None:
    run = chaos.run(
        Steady(length=250), local=1, remote=2, epochs=None, timing=Timing(heartbeat_interval=0.5, worker_timeout=3)
    )
    run.wait_for_taken(10)
    (remote,) = chaos.remotes
    workers = descendants(remote.pid)
    how(remote.pid)
    wait_until(lambda: not alive({remote.pid, *workers}), deadline=2.0, what="the end of its children")
    again = chaos.remote(str(run.enqueuer.endpoint), 2)
    run.wait_for_workers(3)
    assert {*run.worker_pids()} > descendants(again.pid)
    tally = run.finish()
    record_gap(SUPERVISOR_KILLED, tally.longest_gap)
    assert tally.longest_gap <= 3 + 1
