from __future__ import annotations

import logging
import os

import pytest

from enqueuer_worker.running import Running, RunningLease, Work, read_work
from enqueuer_worker.supervisor.children import Child
from enqueuer_worker.supervisor.minute_line import MinuteLine

logger = logging.getLogger("enqueuer.worker.test")


class FakeChild(Child):
    """A process that reports the work it is given."""

    def __init__(self, name: bytes, work: Work, task: int = 1) -> None:
        self.incarnation = name
        self.given, self.task = work, task

    def work(self) -> Work:
        return self.given

    def running(self) -> Running:
        return Running(self.task, 0)


@pytest.fixture(autouse=True)
def at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger.name)


def test_the_line_has_rate_and_busy_share_of_all_workers(caplog: pytest.LogCaptureFixture) -> None:
    line = MinuteLine(logger)
    line.look([FakeChild(b"a", Work(0, 0.0)), FakeChild(b"b", Work(0, 0.0))], 0.0, in_session=True)
    children = [FakeChild(b"a", Work(60, 45.0)), FakeChild(b"b", Work(30, 15.0), task=0)]
    line.look(children, 60.0, in_session=True)
    assert caplog.messages == ["last 60 s: 1.5 batches/s, busy 50% of the time, 1 of 2 workers are computing"]


def test_each_line_counts_from_the_one_before_and_new_processes_from_nothing(caplog: pytest.LogCaptureFixture) -> None:
    line = MinuteLine(logger)
    line.look([FakeChild(b"a", Work(600, 60.0))], 60.0, in_session=True)
    line.look([FakeChild(b"a", Work(660, 72.0)), FakeChild(b"b", Work(60, 24.0))], 120.0, in_session=True)
    assert len(caplog.messages) == 1
    assert "last 60 s: 2.0 batches/s, busy 30%" in caplog.messages[0]


def test_there_is_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    line = MinuteLine(logger)
    for second in range(150):
        line.look([], float(second), in_session=True)
    assert len(caplog.messages) == 2


def test_time_between_sessions_is_in_no_line(caplog: pytest.LogCaptureFixture) -> None:
    line = MinuteLine(logger)
    line.look([FakeChild(b"a", Work(600, 60.0))], 0.0, in_session=True)
    line.look([FakeChild(b"a", Work(630, 60.0))], 30.0, in_session=False)
    line.look([FakeChild(b"a", Work(630, 60.0))], 3600.0, in_session=False)
    line.look([FakeChild(b"a", Work(630, 60.0))], 4000.0, in_session=True)
    line.look([FakeChild(b"a", Work(690, 75.0))], 4060.0, in_session=True)
    assert caplog.messages == ["last 60 s: 1.0 batches/s, busy 25% of the time, 1 of 1 workers are computing"]


def test_a_worker_leaves_its_work_in_the_file_that_it_shares() -> None:
    fd = os.memfd_create("test")
    os.ftruncate(fd, 1 << 16)
    running = RunningLease(fd)
    running.set(4711)
    running.note_item(0.5)
    running.note_item(0.25)
    running.set(4712)
    assert read_work(os.pread(fd, 64, 0)) == Work(2, 0.75)
    assert running.get() == 4712
    os.close(fd)
