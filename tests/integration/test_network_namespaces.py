"""The trainer on one host, `enqueuer worker` on another: real network namespaces with real delay between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.programs import Trainer, Workers, assert_exact, longest_gap, said_on_failure
from tests.support.namespaces import TRAINER_ADDRESS, TwoHosts, two_hosts

pytestmark = [pytest.mark.namespaces, pytest.mark.timeout(90)]

_ADDRESS = f"tcp://{TRAINER_ADDRESS}:5555"


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    yield from two_hosts(delay_ms=10)


def test_an_epoch_over_a_link_with_delay_is_complete_ordered_and_exact(hosts: TwoHosts, tmp_path: Path) -> None:
    arguments = ("--length", "200", "--epochs", "2", "--workers", "4")
    with (
        Workers(hosts.worker, _ADDRESS, log=tmp_path / "workers.log", processes=4) as workers,
        Trainer(hosts.trainer, _ADDRESS, *arguments, log=tmp_path / "trainer.log") as trainer,
        said_on_failure(trainer, workers),
    ):
        trainer.finish(60)
        assert len(trainer.batches) == 400
        assert_exact(trainer.batches, length=200)
        assert len({batch.pid for batch in trainer.batches}) == 4


def test_a_host_that_is_cut_off_is_noticed_and_its_leases_are_computed_elsewhere(
    hosts: TwoHosts, tmp_path: Path
) -> None:
    # A second lease for a late batch would hide what the loss of a worker costs.
    arguments = ("--length", "150", "--epochs", "1", "--workers", "3", "--worker-timeout", "4", "--hedge", "off")
    with (
        Workers(hosts.trainer, _ADDRESS, log=tmp_path / "near.log") as near,
        Workers(hosts.worker, _ADDRESS, "--drain-timeout", "4", log=tmp_path / "far.log", processes=2) as far,
        Trainer(hosts.trainer, _ADDRESS, *arguments, log=tmp_path / "trainer.log") as trainer,
        said_on_failure(trainer, near, far),
    ):
        trainer.wait_for(40)
        hosts.cut()
        stats = trainer.finish(60)
        hosts.mend()
        assert len(trainer.batches) == 150
        assert_exact(trainer.batches, length=150)
        assert stats["lost_workers"] == 2
        # The time-out of the cut-off workers, and a second to notice it.
        assert longest_gap(trainer.batches) <= 4 + 1
