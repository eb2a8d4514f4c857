"""SIGSTOP and SIGCONT: processes stopped for less or more than their time-outs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from enqueuer import Timing
from tests.support.chaos import Chaos, kill, pause, stopped
from tests.support.chaos_sequences import Steady
from tests.support.chaos_trainer import TrainerProgram
from tests.support.remote import free_address

RecordGap = Callable[[str, float], None]

STOPPED = "a worker is stopped, or hardly gets to run"
_TIMING = Timing(heartbeat_interval=0.5, worker_timeout=2)
_LONGEST_GAP = _TIMING.worker_timeout + 1

places = pytest.mark.parametrize(("local", "remote"), [(2, 0), (0, 2)], ids=["local", "remote"])


@pytest.mark.proves(STOPPED)
@places
def test_a_worker_that_is_stopped_for_a_moment_goes_on_and_is_not_lost(
    chaos: Chaos, record_gap: RecordGap, local: int, remote: int
) -> None:
    run = chaos.run(Steady(length=200), local=local, remote=remote, timing=_TIMING)
    run.wait_for_taken(20)
    with stopped(run.worker_pids()[0]):
        pause(0.5)
    run.wait_for_more(20)
    tally = run.finish()
    record_gap(STOPPED, tally.longest_gap)
    assert tally.longest_gap <= _LONGEST_GAP
    assert run.stats.lost_workers_count == 0


@pytest.mark.proves(STOPPED)
@places
def test_a_worker_that_is_stopped_for_longer_than_its_time_out_is_replaced_by_the_others_and_comes_back(
    chaos: Chaos, record_gap: RecordGap, local: int, remote: int
) -> None:
    run = chaos.run(Steady(length=100), local=local, remote=remote, epochs=None, timing=_TIMING)
    run.wait_for_taken(20)
    with stopped(run.worker_pids()[0]):
        run.wait_for_workers(1)
        run.wait_for_more(50)
    run.wait_for_workers(2)
    tally = run.finish()
    record_gap(STOPPED, tally.longest_gap)
    assert tally.longest_gap <= _LONGEST_GAP


@places
def test_a_supervisor_that_is_stopped_longer_than_any_time_out_loses_no_worker(
    chaos: Chaos, local: int, remote: int
) -> None:
    run = chaos.run(Steady(length=100), local=local, remote=remote, epochs=None, timing=_TIMING)
    run.wait_for_taken(20)
    supervisor = run.local_supervisor() if local else chaos.remotes[0].pid
    with stopped(supervisor):
        pause(_TIMING.worker_timeout + 0.5)
    assert run.finish().longest_gap <= _LONGEST_GAP
    assert run.stats.lost_workers_count == 0


@places
def test_a_worker_that_dies_while_its_supervisor_is_stopped_is_noticed(chaos: Chaos, local: int, remote: int) -> None:
    run = chaos.run(Steady(length=100), local=local, remote=remote, epochs=None, timing=_TIMING)
    run.wait_for_taken(20)
    victim = run.worker_pids()[0]
    with stopped(run.local_supervisor() if local else chaos.remotes[0].pid):
        kill(victim)
        run.wait_for_workers(1, apart_from=victim)
        run.wait_for_more(20)
    run.wait_for_workers(2, apart_from=victim)
    assert run.finish().longest_gap <= _LONGEST_GAP


@pytest.mark.proves("the trainer is stopped and goes on")
@places
def test_a_trainer_that_is_stopped_longer_than_all_time_outs_goes_on_where_it_was(
    chaos: Chaos, tmp_path: Path, local: int, remote: int
) -> None:
    address = free_address()
    if remote:
        chaos.remote(address, remote)
    with TrainerProgram(
        tmp_path / "trainer.log",
        bind=address,
        local=local,
        min_workers=2,
        length=120,
        heartbeat_interval=0.5,
        worker_timeout=1,
        coordinator_timeout=2,
    ) as trainer:
        trainer.wait_for_taken(30)
        with stopped(trainer.pid):
            pause(3)
        report = trainer.report()
    assert report["taken"] == 120
    assert report["longest_gap"] <= 3 + 1 + 1
