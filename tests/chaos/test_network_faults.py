"""The trainer on one host with a worker beside it, two workers on another host; the network between them fails."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.programs import Trainer, Workers, assert_exact, longest_gap, said_on_failure
from tests.support.chaos import pause
from tests.support.namespaces import TRAINER_ADDRESS, TwoHosts, two_hosts

pytestmark = pytest.mark.namespaces

_ADDRESS = f"tcp://{TRAINER_ADDRESS}:5555"
_LIVENESS = 3.0
_TIMING = ("--heartbeat-interval", "0.5", "--worker-timeout", str(_LIVENESS), "--coordinator-timeout", "9")
# A second lease for a late batch would hide what the loss of a worker costs.
_NO_HEDGE = ("--hedge", "off")
_LENGTH = 100
CUT_OFF = "a host loses power or its network is cut off"
BREAKS = "a connection breaks or stalls and batches vanish in it"
RecordGap = Callable[[str, float], None]


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    yield from two_hosts(delay_ms=5)


@contextlib.contextmanager
def running(hosts: TwoHosts, tmp_path: Path, near: int, far: int, *arguments: str) -> Iterator[tuple[Trainer, Workers]]:
    """A trainer that has taken 40 batches of 20 ms, and its workers on the other host."""
    common = ("--length", str(_LENGTH), "--workers", str(near + far), *_TIMING, *arguments)
    drain = ("--drain-timeout", "4")
    with (
        Workers(hosts.trainer, _ADDRESS, *drain, log=tmp_path / "near.log", processes=near) as beside,
        Workers(hosts.worker, _ADDRESS, *drain, log=tmp_path / "far.log", processes=far) as apart,
        Trainer(hosts.trainer, _ADDRESS, *common, log=tmp_path / "trainer.log") as trainer,
        said_on_failure(trainer, beside, apart),
    ):
        trainer.wait_for(40)
        yield trainer, apart


@pytest.mark.proves(CUT_OFF)
@pytest.mark.parametrize("direction", ["", "up", "down"])
def test_a_host_cut_off_for_longer_than_the_liveness_costs_that_and_comes_back(
    hosts: TwoHosts, tmp_path: Path, record_gap: RecordGap, direction: str
) -> None:
    with running(hosts, tmp_path, 1, 2, *_NO_HEDGE) as (trainer, far):
        pids = far.pids()
        hosts.cut(direction)
        pause(_LIVENESS + 2)
        hosts.mend()
        mended = time.monotonic()
        back = trainer.wait_until_served_by(pids, since=mended) - mended
        stats = trainer.finish()
        gap = longest_gap(trainer.batches)
    print(f"cut {direction or 'both'}: gap {gap:.2f} s, back {back:.2f} s after the mending, {stats}")
    assert hosts.counts()["cut"] > 0
    assert_exact(trainer.batches, _LENGTH)
    assert stats["lost_workers"] >= 2
    assert gap <= _LIVENESS + 1
    record_gap(CUT_OFF, gap)


@pytest.mark.proves(BREAKS)
@pytest.mark.parametrize("direction", ["", "up", "down"])
def test_a_cut_that_is_shorter_than_the_liveness_loses_nobody(
    hosts: TwoHosts, tmp_path: Path, record_gap: RecordGap, direction: str
) -> None:
    with running(hosts, tmp_path, 1, 2, *_NO_HEDGE) as (trainer, far):
        pids = far.pids()
        hosts.cut(direction)
        pause(_LIVENESS / 3)
        hosts.mend()
        trainer.wait_until_served_by(pids, since=time.monotonic())
        stats = trainer.finish()
        gap = longest_gap(trainer.batches)
    print(f"short cut {direction or 'both'}: gap {gap:.2f} s, {stats}")
    assert hosts.counts()["cut"] > 0
    assert_exact(trainer.batches, _LENGTH)
    assert stats["lost_workers"] == 0
    assert gap <= _LIVENESS + 1
    record_gap(BREAKS, gap)


@pytest.mark.proves(BREAKS)
def test_a_wire_that_loses_delays_overtakes_and_doubles_packets_changes_no_batch(
    hosts: TwoHosts, tmp_path: Path, record_gap: RecordGap
) -> None:
    arguments = ("--epochs", "4", "--size", "500")
    with running(hosts, tmp_path, 1, 2, *arguments) as (trainer, far):
        hosts.weather(loss=0.05, delay=20, jitter=10, reorder=0.1, duplicate=0.05)
        far_pids = far.pids()
        stats = trainer.finish(90)
        counts = hosts.counts()
        hosts.weather(loss=0, reorder=0, duplicate=0)
    gap = longest_gap(trainer.batches)
    print(f"weather: gap {gap:.2f} s, {counts}, {stats}")
    assert min(counts[fault] for fault in ("lost", "overtaken", "duplicated")) > 0
    assert len(trainer.batches) == 4 * _LENGTH
    assert_exact(trainer.batches, _LENGTH)
    assert sum(batch.pid in far_pids for batch in trainer.batches) > _LENGTH
    record_gap(BREAKS, gap)
