"""The worker's first minute on another host: what is in the way of a trainer has a text of its own, told once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from enqueuer.security.key_directory import KeyDirectory
from tests.integration.programs import Trainer, Workers
from tests.support.namespaces import TRAINER_ADDRESS, WORKER_ADDRESS, TwoHosts, two_hosts
from tests.support.waiting import wait_until
from tests.support.wire import DEVICE

pytestmark = [pytest.mark.namespaces, pytest.mark.timeout(90)]

# Beside the two hosts; the others are of TEST-NET-2 and 3 (RFC 5737).
MOVED_ADDRESS = "192.0.2.3"
UNREACHABLE, PROHIBITED, UNROUTED = "198.51.100.1", "198.51.100.2", "203.0.113.1"


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    yield from two_hosts(delay_ms=1)


def wait_for_text(worker: Workers, words: str) -> None:
    """Wait until the worker's log has these words, then assert that it says them once."""
    wait_until(lambda: words in worker.output(), 40.0, f"{words!r} in {worker.log}")
    assert worker.output().count(words) == 1, worker.output()


def test_each_obstacle_on_the_way_has_its_own_text(hosts: TwoHosts, tmp_path: Path) -> None:
    hosts.name_trainer("trainer")
    hosts.route("unreachable", UNREACHABLE)
    hosts.route("prohibit", PROHIBITED)
    obstacles = {
        "tcp://nobody:5555": "the name 'nobody' of the trainer is not known here",
        "tcp://trainer:5555": f"no trainer listens at trainer:5555 ({TRAINER_ADDRESS}): the connection is refused",
        f"tcp://{UNREACHABLE}:5555": f"there is no route to {UNREACHABLE}:5555: No route to host",
        f"tcp://{UNROUTED}:5555": f"there is no route to {UNROUTED}:5555: Network is unreachable",
        f"tcp://{PROHIBITED}:5555": f"this machine cannot connect to {PROHIBITED}:5555",
    }
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(Workers(hosts.worker, address, log=tmp_path / f"log-{number}"))
            for number, address in enumerate(obstacles)
        ]
        for worker, words in zip(workers, obstacles.values(), strict=True):
            wait_for_text(worker, words)


@pytest.mark.timeout(240)
def test_a_worker_waits_for_the_name_and_finds_the_trainer_at_one_of_its_addresses_and_again_after_it_has_moved(
    hosts: TwoHosts, tmp_path: Path
) -> None:
    hosts.name_trainer("nobody-yet")
    with Workers(hosts.worker, "tcp://trainer:5555", "--interface", DEVICE, log=tmp_path / "worker.log") as worker:
        wait_for_text(worker, "the name 'trainer' of the trainer is not known here")
        hosts.route("unreachable", UNREACHABLE)
        hosts.name_trainer("trainer", UNREACHABLE, WORKER_ADDRESS, TRAINER_ADDRESS)
        with Trainer(hosts.trainer, f"tcp://{TRAINER_ADDRESS}:5555", log=tmp_path / "trainer.log") as trainer:
            trainer.wait_for(20, 60.0)
            served_by = {batch.pid for batch in list(trainer.batches)}
            trainer.kill()
        hosts.move_trainer(MOVED_ADDRESS)
        # The name keeps the address that the trainer has left.
        hosts.name_trainer("trainer", TRAINER_ADDRESS, MOVED_ADDRESS)
        with Trainer(hosts.trainer, f"tcp://{MOVED_ADDRESS}:5555", log=tmp_path / "moved.log") as moved:
            moved.wait_for(20, 60.0)
            assert {batch.pid for batch in list(moved.batches)} == served_by
            wait_for_text(worker, "the connection to the trainer broke")


def test_a_firewall_that_drops_packets_is_told_and_then_the_trainer_is_served(hosts: TwoHosts, tmp_path: Path) -> None:
    address = f"tcp://{TRAINER_ADDRESS}:5555"
    hosts.cut()
    with (
        Trainer(hosts.trainer, address, "--length", "20", log=tmp_path / "trainer.log") as trainer,
        Workers(hosts.worker, address, log=tmp_path / "worker.log") as worker,
    ):
        wait_for_text(worker, f"nothing comes back from {TRAINER_ADDRESS}:5555; a firewall on the way drops the")
        hosts.mend()
        trainer.wait_for(20, 40.0)


def test_a_refused_key_over_the_network_is_told_and_ends_a_worker_for_one_session(
    hosts: TwoHosts, tmp_path: Path
) -> None:
    for name in ("ours", "others"):
        KeyDirectory(tmp_path / name).create()
    address = f"tcp://{TRAINER_ADDRESS}:5555"
    key = ("--key-file", str(KeyDirectory(tmp_path / "ours").key_file))
    token = ("--token-file", str(KeyDirectory(tmp_path / "others").token_file("worker")))
    with Trainer(hosts.trainer, address, "--length", "20", *key, log=tmp_path / "trainer.log"):
        worker = Workers(hosts.worker, address, "--once", *token, log=tmp_path / "worker.log")
        wait_until(lambda: not worker.is_running(), 60.0, "the end of the worker")
        assert worker.stop() == 1
        wait_for_text(worker, f"the trainer at {TRAINER_ADDRESS}:5555 has other keys")
