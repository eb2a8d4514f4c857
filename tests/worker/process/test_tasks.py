"""The compute thread's queue, and the running lease in the shared file."""

from __future__ import annotations

import os
import tempfile
import threading

import pytest

from enqueuer.protocol.messages import Epoch, Welcome
from enqueuer_worker.core.events import Compute, Prepare
from enqueuer_worker.process.tasks import TaskQueue
from enqueuer_worker.running import (
    RUNNING_BYTES,
    SHARED_BYTES,
    Running,
    RunningLease,
    read_rejection,
    read_running,
)

SESSION = b"s" * 16
EPOCH = Epoch(0, 0, 7, None)
PREPARE = Prepare(SESSION, Welcome("", 1.0, 30.0, 0, None, {}), EPOCH)


@pytest.fixture
def tasks() -> TaskQueue:
    return TaskQueue(RunningLease(None))


def take_leases(tasks: TaskQueue, count: int) -> list[int]:
    return [task[2] for task in (tasks.take() for _ in range(count)) if isinstance(task, tuple)]


def test_tasks_come_out_in_order_item_by_item(tasks: TaskQueue) -> None:
    tasks.add(PREPARE)
    tasks.add(Compute(SESSION, EPOCH, 5, (30, 10)))
    assert tasks.take() is PREPARE
    assert tasks.running.get() == 0
    assert tasks.take() == (SESSION, EPOCH, 5, 30)
    assert tasks.running.get() == 5
    assert tasks.take() == (SESSION, EPOCH, 6, 10)
    assert tasks.take() is None and tasks.running.get() == 0


def test_a_new_task_wakes_a_waiting_thread(tasks: TaskQueue) -> None:
    waiting = threading.Thread(target=tasks.wait, daemon=True)
    waiting.start()
    tasks.add(PREPARE)
    waiting.join(10.0)
    assert not waiting.is_alive() and tasks.take() is PREPARE


def test_cancelled_leases_leave_the_queue_and_their_numbers_can_come_again(tasks: TaskQueue) -> None:
    tasks.add(PREPARE)
    tasks.add(Compute(SESSION, EPOCH, 1, (10, 11, 12)))
    tasks.cancel(frozenset({2, 99}))
    assert tasks.take() is PREPARE
    assert take_leases(tasks, 2) == [1, 3]
    tasks.add(Compute(SESSION, EPOCH, 99, (13,)))
    assert take_leases(tasks, 1) == [99]


def test_the_end_of_a_session_empties_the_queue_and_disowns_the_running_task(tasks: TaskQueue) -> None:
    tasks.add(Compute(SESSION, EPOCH, 1, (10, 11)))
    tasks.take()
    tasks.cancel(None)
    assert len(tasks) == 0 and tasks.running.get() == 0


def test_a_closed_queue_has_no_more_tasks(tasks: TaskQueue) -> None:
    tasks.add(Compute(SESSION, EPOCH, 1, (10, 11)))
    tasks.take()
    tasks.close()
    assert tasks.take() is None and tasks.running.get() == 0
    tasks.wait()


def test_the_running_lease_can_be_read_through_the_shared_file() -> None:
    with tempfile.TemporaryFile() as file:
        os.ftruncate(file.fileno(), SHARED_BYTES)
        RunningLease(file.fileno()).set(2**40)
        assert read_running(os.pread(file.fileno(), RUNNING_BYTES, 0)) == Running(task=1, lease=2**40)


def test_the_reason_of_a_rejection_can_be_read_through_the_shared_file() -> None:
    with tempfile.TemporaryFile() as file:
        os.ftruncate(file.fileno(), SHARED_BYTES)
        running = RunningLease(file.fileno())
        running.set(5)
        assert read_rejection(os.pread(file.fileno(), SHARED_BYTES, 0)) == ""
        for reason in ("another NumPy — 1.26", "a long one" * 10_000):
            running.set_rejection(reason)
            read = read_rejection(os.pread(file.fileno(), SHARED_BYTES, 0))
            assert reason.startswith(read) and len(read) > 15
        assert running.get() == 5


def test_a_repeated_lease_is_another_task_and_a_disowned_task_has_no_lease() -> None:
    with tempfile.TemporaryFile() as file:
        os.ftruncate(file.fileno(), SHARED_BYTES)
        running = RunningLease(file.fileno())

        def seen() -> Running:
            return read_running(os.pread(file.fileno(), RUNNING_BYTES, 0))

        assert seen() == Running(task=0, lease=0)
        running.set(1)
        running.set(0)
        assert seen() == Running(task=0, lease=0)
        running.set(1)
        assert seen() == Running(task=2, lease=1)
        running.disown()
        assert seen() == Running(task=2, lease=0) and running.get() == 0
