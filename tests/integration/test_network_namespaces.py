"""The trainer on one host, `enqueuer worker` on another: real network namespaces with real delay between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.namespaces import TRAINER_ADDRESS, TwoHosts, why_no_namespaces
from tests.support.remote import REPOSITORY, environment

pytestmark = [pytest.mark.namespaces, pytest.mark.timeout(90)]

_ADDRESS = f"tcp://{TRAINER_ADDRESS}:5555"


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    reason = why_no_namespaces()
    if reason is not None:
        # CI sets this: there, a skipped test is a failed one.
        if os.environ.get("REQUIRE_NAMESPACES"):
            pytest.fail(reason)
        pytest.skip(reason)
    with TwoHosts(delay_ms=10) as made:
        yield made


def _start_worker(where: list[str], log: Path, processes: int) -> subprocess.Popen[bytes]:
    command = [*where, sys.executable, "-m", "enqueuer_worker", "--connect", _ADDRESS, "--allow", "tests"]
    with log.open("wb") as sink:
        return subprocess.Popen(
            [*command, "--processes", str(processes)], cwd=REPOSITORY, env=environment(), stdout=sink, stderr=sink
        )


def _trainer(hosts: TwoHosts, *arguments: str) -> list[str]:
    program = [sys.executable, "-m", "tests.integration.trainer_program", _ADDRESS]
    return [*hosts.trainer, *program, *arguments]


def test_an_epoch_over_a_link_with_delay_is_complete_ordered_and_exact(hosts: TwoHosts, tmp_path: Path) -> None:
    worker = _start_worker(hosts.worker, tmp_path / "worker.log", processes=4)
    try:
        finished = subprocess.run(
            _trainer(hosts, "--length", "200", "--epochs", "2", "--workers", "4"),
            cwd=REPOSITORY,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        worker.terminate()
        worker.wait(40)
    assert finished.returncode == 0, finished.stderr + (tmp_path / "worker.log").read_text()
    report = json.loads(finished.stdout.splitlines()[-1])
    assert report["indices"] == [*range(200), *range(200)]
    assert report["sums"] == [5000 * index for index in report["indices"]]
    assert report["pids"] == 4


def test_a_host_that_is_cut_off_is_noticed_and_its_leases_are_computed_elsewhere(
    hosts: TwoHosts, tmp_path: Path
) -> None:
    near = _start_worker(hosts.trainer, tmp_path / "near.log", processes=1)
    far = _start_worker(hosts.worker, tmp_path / "far.log", processes=2)
    trainer = subprocess.Popen(
        _trainer(hosts, "--length", "150", "--workers", "3", "--worker-timeout", "4"),
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert trainer.stdout is not None
    try:
        for line in trainer.stdout:
            if line == "taken 40\n":
                hosts.cut()
            if line.startswith("{"):
                report = json.loads(line)
        assert trainer.wait(60) == 0
        hosts.mend()
    finally:
        for process in (trainer, near, far):
            process.terminate()
        for process in (trainer, near, far):
            process.wait(40)
        trainer.stdout.close()
    assert report["indices"] == list(range(150))
    assert report["lost_workers"] == 2
    # The time-out of the cut-off workers, and a second to notice it.
    assert report["longest_gap"] <= 4 + 1
