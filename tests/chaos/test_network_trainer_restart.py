"""A trainer vanishes, and the same workers serve the next one at its address."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.programs import Trainer, Workers, assert_exact, said_on_failure
from tests.support.chaos import pause
from tests.support.namespaces import TRAINER_ADDRESS, TwoHosts, two_hosts
from tests.support.remote import free_address
from tests.support.waiting import wait_until

KILLED = "the trainer is killed (SIGKILL)"
CUT_OFF = "a host loses power or its network is cut off"
# The longest between two attempts, as the workers are told.
_PAUSE = 1.0
# How long an attempt goes on before it counts as failed, less the second after which the kernel asks again.
_ATTEMPT = 2.0
# Hello, Welcome, building the Sequence, the first batch; and other tests may have the CPUs.
_JOINING = 2.0
Start = Callable[..., Trainer]
RecordGap = Callable[[str, float], None]


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    yield from two_hosts(delay_ms=5)


@contextlib.contextmanager
def succession(tmp_path: Path, address: str, hosts: TwoHosts | None = None) -> Iterator[tuple[Workers, Start]]:
    """Two worker processes for one address, and a function that starts one trainer after another there."""
    trainers: list[Trainer] = []

    def start(length: int, *arguments: str) -> Trainer:
        arguments = ("--length", str(length), "--heartbeat-interval", "0.5", "--worker-timeout", "3", *arguments)
        log = tmp_path / f"trainer-{len(trainers)}.log"
        trainers.append(stack.enter_context(Trainer(hosts.trainer if hosts else [], address, *arguments, log=log)))
        return trainers[-1]

    arguments = ("--max-reconnect-interval", str(_PAUSE), "--drain-timeout", "4")
    log = tmp_path / "workers.log"
    with (
        Workers(hosts.worker if hosts else [], address, *arguments, log=log, processes=2) as workers,
        contextlib.ExitStack() as stack,
        said_on_failure(workers),
    ):
        yield workers, start


def time_to_first_batch(trainer: Trainer) -> float:
    """The seconds from the moment at which the trainer could be reached."""
    trainer.wait_for(1)
    return trainer.batches[0].at - trainer.bound_at


@pytest.mark.proves(KILLED)
def test_workers_of_a_killed_trainer_serve_the_next_ones_whatever_their_sequence(
    tmp_path: Path, record_gap: RecordGap
) -> None:
    with succession(tmp_path, free_address()) as (workers, start):
        first = start(100)
        first.wait_for(40)
        pids = workers.pids()
        first.kill()

        second = start(100)
        at_once = time_to_first_batch(second)
        second.wait_for(140)
        second.kill()

        # Long enough for the pauses between their attempts to grow as long as they may.
        pause(5 * _PAUSE)
        third = start(60, "--sequence", "Negated")
        after_a_while = time_to_first_batch(third)
        third.wait_until_served_by(pids, since=third.bound_at, count=60)
        third.finish()
        assert workers.pids() == pids, "nothing of this was a reason to start them again"
    print(f"first batch: {at_once:.2f} s after a restart at once, {after_a_while:.2f} s after a late one")
    for trainer in (first, second):
        whole = len(trainer.batches) // 100 * 100
        assert_exact(trainer.batches[:whole], 100)
        assert [batch.index for batch in trainer.batches[whole:]] == list(range(len(trainer.batches) - whole))
    assert_exact(third.batches, 60, sign=-1)
    assert {batch.pid for batch in third.batches} == pids
    for seconds in (at_once, after_a_while):
        assert seconds <= _PAUSE + _JOINING
        record_gap(KILLED, seconds)


@pytest.mark.namespaces
@pytest.mark.proves(KILLED)
@pytest.mark.proves(CUT_OFF)
def test_a_trainer_that_died_while_cut_off_is_not_taken_for_the_next_one(hosts: TwoHosts, tmp_path: Path) -> None:
    with succession(tmp_path, f"tcp://{TRAINER_ADDRESS}:5555", hosts) as (workers, start):
        first = start(100)
        first.wait_for(40)
        pids = workers.pids()
        hosts.cut()
        # Nobody hears of it: the workers hold leases and answers of a session that is no more.
        first.kill()
        second = start(60, "--sequence", "Negated")
        pause(2.0)
        assert not second.batches
        hosts.mend()
        second.wait_for(60)
        second.finish()
        assert workers.pids() == pids
    assert_exact(second.batches, 60, sign=-1)


@pytest.mark.namespaces
@pytest.mark.proves(KILLED)
def test_a_long_silence_of_the_network_does_not_make_the_pauses_between_attempts_longer(
    hosts: TwoHosts, tmp_path: Path, record_gap: RecordGap
) -> None:
    with succession(tmp_path, f"tcp://{TRAINER_ADDRESS}:5555", hosts) as (workers, start):
        first = start(100)
        first.wait_for(40)
        first.kill()
        hosts.cut()
        second = start(60)
        # By now a kernel that is left to itself asks every 8 s, and ever more rarely.
        pause(13.0)
        hosts.mend()
        mended = time.monotonic()
        joined = workers.output().count("joined a session at")
        bound = _PAUSE + _ATTEMPT + _JOINING
        second.wait_for(1, deadline=bound)
        wait_until(lambda: workers.output().count("joined a session at") > joined, bound, "the supervisor's return")
        second.finish()
    seconds = second.batches[0].at - mended
    print(f"first batch: {seconds:.2f} s after the mending")
    assert_exact(second.batches, 60)
    record_gap(KILLED, seconds)
