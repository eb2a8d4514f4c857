"""When a machine leaves of itself, and with which exit code."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import zmq

from enqueuer_worker.supervisor.early_leave import EarlyLeave

LOGGER = logging.getLogger("enqueuer.worker.test")


def test_a_lifetime_begins_at_the_start_and_ends_once() -> None:
    leave = EarlyLeave(lifetime=60.0)
    leave.start(zmq.Poller(), LOGGER, 100.0)
    assert leave.next_deadline() == 160.0
    assert leave.reason(159.9) == ""
    assert leave.reason(160.0) == "the lifetime is over"
    leave.begin()
    assert leave.reason(1e9) == "" and leave.next_deadline() == math.inf


def test_a_stagger_only_shortens_the_lifetime_and_differs_from_machine_to_machine() -> None:
    ends = set()
    for _ in range(200):
        leave = EarlyLeave(lifetime=60.0, stagger=20.0)
        leave.start(zmq.Poller(), LOGGER, 0.0)
        ends.add(leave.next_deadline())
    assert min(ends) >= 40.0 and max(ends) <= 60.0
    assert max(ends) - min(ends) > 10.0


def test_without_reasons_a_machine_stays() -> None:
    leave = EarlyLeave()
    leave.start(zmq.Poller(), LOGGER, 100.0)
    assert leave.next_deadline() == math.inf and leave.reason(1e12) == ""


def test_a_notice_ends_a_poll_and_is_not_watched_afterwards(tmp_path: Path) -> None:
    poller = zmq.Poller()
    (tmp_path / "notice").touch()
    leave = EarlyLeave(preemption_notice=str(tmp_path / "notice"))
    leave.start(poller, LOGGER, 100.0)
    assert poller.poll(60_000), "the watch has seen the file"
    assert leave.reason(100.0) == f"preemption notice: {tmp_path}/notice is there"
    leave.begin()
    assert poller.sockets == [] and leave.reason(100.0) == ""


def test_only_an_early_end_has_the_requeue_exit_code_and_a_second_signal_has_its_own() -> None:
    leave = EarlyLeave(requeue_exit_code=75)
    assert [leave.exit_status(status) for status in (0, 1, 143)] == [0, 1, 143]
    leave.begin()
    assert [leave.exit_status(status) for status in (0, 1, 143)] == [75, 75, 143]
    plain = EarlyLeave()
    plain.begin()
    assert [plain.exit_status(status) for status in (0, 1, 143)] == [0, 1, 143]
