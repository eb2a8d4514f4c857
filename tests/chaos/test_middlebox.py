"""A middlebox between trainer and workers stalls, swallows, resets and forgets connections."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.programs import Trainer, Workers, assert_exact, longest_gap, said_on_failure
from tests.support.chaos import pause
from tests.support.middlebox import TRAINER, WORKER, Fault, Middlebox
from tests.support.remote import free_address

_ITEMS = 12_500
_BATCH_BYTES = 8 * _ITEMS
_LIVENESS = 3.0
# libzmq asks every 2 s, and gives up 8 s later: see the transport.
_ZMTP_NOTICES = 2.0 + 8.0
_RECONNECT = 1.0
BREAKS = "a connection breaks or stalls and batches vanish in it"
_BOTH = ("control", "data")
# Half-open connections are few: each takes a worker away for as long as libzmq needs to notice.
_STORM = [
    *[
        Fault(name, channels, everyone)
        for name in ("stall", "stall_and_reset", "swallow_and_reset")
        for channels in (("control",), ("data",), _BOTH)
        for everyone in (False, True)
    ],
    *[Fault("swallow_and_reset", ("data",)) for _ in range(8)],
    *[Fault(name, (channel,)) for name in ("forget_worker", "forget_trainer") for channel in _BOTH],
]
RecordGap = Callable[[str, float], None]


@contextlib.contextmanager
def running(directory: Path, processes: int, *arguments: str) -> Iterator[tuple[Middlebox, Trainer, Workers]]:
    """A trainer that has taken 40 batches of 100 kB, through a box, from remote workers on this host."""
    directory.mkdir(exist_ok=True)
    control, data = free_address(), free_address()
    with Middlebox({"control": host_and_port(control), "data": host_and_port(data)}) as box:
        common = ("--data-bind", data, "--advertise", f"tcp://127.0.0.1:{box.ports['data']}", "--size", str(_ITEMS))
        timing = ("--heartbeat-interval", "0.5", "--worker-timeout", str(_LIVENESS), "--coordinator-timeout", "9")
        to_box, patience = f"tcp://127.0.0.1:{box.ports['control']}", ("--max-reconnect-interval", str(_RECONNECT))
        with (
            Workers([], to_box, *patience, log=directory / "workers.log", processes=processes) as workers,
            Trainer([], control, *common, *timing, *arguments, log=directory / "trainer.log") as trainer,
            said_on_failure(trainer, workers),
        ):
            trainer.wait_for(40)
            yield box, trainer, workers


def host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host, int(port)


@pytest.mark.proves(BREAKS)
def test_a_storm_of_faults_loses_repeats_and_disorders_nothing(tmp_path: Path, record_gap: RecordGap) -> None:
    chance = random.Random(11)
    faults = chance.sample(_STORM, len(_STORM))
    length = 100
    # A second lease for a late batch would hide how long a connection takes to recover.
    with running(tmp_path, 2, "--length", str(length), "--hedge", "off") as (box, trainer, workers):
        pids = workers.pids()
        for fault in faults:
            box.inject(fault, chance.uniform(0.05, 0.6), chance)
            pause(0.3)
        calm = time.monotonic()
        for pid in pids:
            trainer.wait_until_served_by({pid}, since=calm)
        trainer.wait_for(4 * length)
        stats = trainer.finish()
        lost_bytes = box.swallowed("data", WORKER)
    gap = longest_gap(trainer.batches)
    print(f"storm: {len(trainer.batches)} batches, gap {gap:.2f} s, {dict(box.hits)}, {stats}")
    print(f"vanished: {lost_bytes} bytes of results, some {lost_bytes // _BATCH_BYTES} whole ones")
    assert_exact(trainer.batches, length)
    assert lost_bytes > 3 * _BATCH_BYTES, "the faults were to make results vanish"
    assert box.swallowed("control", TRAINER) > 0, "and grants"
    assert {name for name, _ in box.hits} == {fault.name for fault in _STORM}
    # A connection that is half-open may be followed by ones that are reset.
    assert gap <= _ZMTP_NOTICES + 5 * _RECONNECT
    record_gap(BREAKS, gap)


@pytest.mark.proves(BREAKS)
def test_a_half_open_connection_is_noticed_on_either_channel_and_at_either_end(
    tmp_path: Path, record_gap: RecordGap
) -> None:
    cases = [(name, channel) for name in ("forget_worker", "forget_trainer") for channel in _BOTH]
    length = 50
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(running(tmp_path / "-".join(case), 1, "--length", str(length))) for case in cases]
        for (name, channel), (box, _, _) in zip(cases, runs, strict=True):
            assert box.inject(Fault(name, (channel,), everyone=True), 0.0, random.Random(1)) > 0
        forgotten = time.monotonic()
        for case, (box, trainer, workers) in zip(cases, runs, strict=True):
            # A control connection's batches that were granted before still arrive.
            trainer.wait_until_served_by(workers.pids(), since=forgotten, count=30)
            stats = trainer.finish()
            gap = longest_gap(trainer.batches)
            print(f"{case}: gap {gap:.2f} s, {box.swallowed(case[1], WORKER)} bytes up, {stats}")
            assert_exact(trainer.batches, length)
            assert gap <= _ZMTP_NOTICES + 2 * _RECONNECT
            record_gap(BREAKS, gap)


@pytest.mark.proves(BREAKS)
def test_a_worker_whose_control_connection_is_forgotten_costs_no_more_than_one_that_is_silent(
    tmp_path: Path, record_gap: RecordGap
) -> None:
    """The worker computes on and its supervisor reports it alive, but its last grants never arrived."""
    length = 100
    with running(tmp_path, 4, "--length", str(length), "--workers", "4", "--hedge", "off") as (box, trainer, _):
        # One may be the supervisor's, so two: at least one worker is hit, at least two are not.
        for _ in range(2):
            assert box.inject(Fault("forget_trainer", ("control",)), 0.0, random.Random(1)) == 1
        pause(_LIVENESS + 2)
        stats = trainer.finish()
    gap = longest_gap(trainer.batches)
    print(f"two control connections forgotten: gap {gap:.2f} s, {stats}")
    assert_exact(trainer.batches, length)
    assert gap <= _LIVENESS + 1
    record_gap(BREAKS, gap)
