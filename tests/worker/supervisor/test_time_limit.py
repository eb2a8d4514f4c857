"""A real supervisor with workers that take too long for a batch."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from enqueuer.protocol.batch import Trust
from enqueuer.protocol.messages import Children, Heartbeat, Hello, Role, Stop, WorkerExited
from tests.support.remote import RemoteWorker
from tests.support.waiting import settled, wait_until
from tests.worker.scripted_coordinator import ScriptedCoordinator
from tests.worker.supervisor.test_supervisor import Trainer, is_worker, local_address, moody

TIMEOUT = 0.3

Start = Callable[..., RemoteWorker]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts ``python -m enqueuer_worker``; killed after the test if it still runs."""
    started: list[RemoteWorker] = []

    def start_one(coordinator: ScriptedCoordinator, processes: int = 1) -> RemoteWorker:
        started.append(RemoteWorker(coordinator.address, tmp_path / f"log-{len(started)}", processes))
        return started[-1]

    yield start_one
    for worker in started:
        worker.stop(timeout=0.1)


def serve_one(coordinator: ScriptedCoordinator) -> tuple[bytes, Hello]:
    """Let the supervisor and one worker in; returns the worker's route and Hello."""
    coordinator.let_in(Role.SUPERVISOR)
    route = coordinator.serve()
    return route, next(
        hello for _, _, hello in reversed(coordinator.heard) if isinstance(hello, Hello) and is_worker(hello)
    )


def frames(stack: str) -> list[str]:
    """The functions in a stack, the innermost first."""
    heading, *lines = stack.splitlines()
    assert heading.startswith(("Stack ", "Current thread ")), stack
    return [line.rpartition(" in ")[2] for line in lines]


@pytest.mark.parametrize(("mood", "function"), [("hang", "hang_for_ever"), ("hold the GIL", "hold_the_gil_for_ever")])
def test_a_worker_that_takes_too_long_is_replaced_and_its_stack_reported(
    start: Start, mood: str, function: str
) -> None:
    with ScriptedCoordinator(sequence=moody(i1=mood), batch_timeout=TIMEOUT) as coordinator:
        worker = start(coordinator)
        route, first = serve_one(coordinator)
        coordinator.grant(route, 1, [0, 1, 2])
        _, exited = coordinator.expect(WorkerExited)
        assert (exited.incarnation, exited.exit_code, exited.running) == (first.incarnation, -signal.SIGKILL, 2)
        assert exited.timed_out
        assert frames(exited.stack) == [function, "__getitem__", "compute_item"]
        coordinator.expect(Hello, lambda hello: is_worker(hello) and hello.incarnation != first.incarnation)
    assert "takes longer than batch_timeout" in worker.output() and "starting it again at once" in worker.output()
    assert function in worker.output()


@pytest.mark.parametrize("mood", ["stop", "be deaf"])
def test_a_worker_that_writes_no_stack_is_replaced_as_well(start: Start, mood: str) -> None:
    with ScriptedCoordinator(sequence=moody(i0=mood), batch_timeout=TIMEOUT) as coordinator:
        start(coordinator)
        route, first = serve_one(coordinator)
        coordinator.grant(route, 1, [0])
        _, exited = coordinator.expect(WorkerExited)
        assert exited == WorkerExited(first.incarnation, 0, -signal.SIGKILL, 1, True, "")


def test_a_reported_stack_is_bounded(start: Start) -> None:
    with ScriptedCoordinator(sequence=moody(i0="recurse"), batch_timeout=TIMEOUT) as coordinator:
        start(coordinator)
        route, _ = serve_one(coordinator)
        coordinator.grant(route, 1, [0])
        _, exited = coordinator.expect(WorkerExited)
        assert exited.timed_out and len(exited.stack) <= 16 * 1024
        assert frames(exited.stack)[:3] == ["hang_for_ever", "recurse", "recurse"]


def test_batches_within_the_time_limit_may_take_longer_together(start: Start) -> None:
    with ScriptedCoordinator(sequence=moody(**{f"i{i}": "sleep 0.1" for i in range(10)}), batch_timeout=1.0) as other:
        start(other)
        route, _ = serve_one(other)
        other.grant(route, 1, range(15))
        assert len(other.batches(15)) == 15
        other.expect(Heartbeat, lambda beat: beat.running == 0)
        assert other.all_of(WorkerExited) == []


@pytest.mark.parametrize("timeout", [None, "soon", -1.0, True])
def test_without_a_valid_batch_timeout_there_is_no_time_limit(start: Start, timeout: Any) -> None:
    with ScriptedCoordinator(sequence=moody(i0="hang"), batch_timeout=timeout) as coordinator:
        worker = start(coordinator)
        route, _ = serve_one(coordinator)
        coordinator.grant(route, 1, [0])
        coordinator.expect(Heartbeat, lambda beat: beat.running == 1)

        def exits_count() -> int:
            coordinator.poll(10)
            return len(coordinator.all_of(WorkerExited))

        assert settled(exits_count, quiet=0.5) == 0
    assert ("batch_timeout is not a number" in worker.output()) == (timeout is not None)


def test_the_other_workers_go_on_while_one_is_replaced(start: Start) -> None:
    with ScriptedCoordinator(sequence=moody(i0="hang"), batch_timeout=TIMEOUT) as coordinator:
        start(coordinator, processes=2)
        coordinator.let_in(Role.SUPERVISOR)
        stuck = coordinator.serve()
        other = coordinator.serve()
        coordinator.grant(stuck, 1, [0])
        coordinator.expect(Heartbeat, lambda beat: beat.running == 1)
        coordinator.grant(other, 10, range(1, 100))
        assert set(coordinator.batches(99)) == set(range(10, 109))
        _, exited = coordinator.expect(WorkerExited)
        assert (exited.running, exited.timed_out) == (1, True)
        coordinator.grant(other, 200, [7])
        assert set(coordinator.batches(1)) == {200}


def test_a_supervisor_does_not_count_the_time_in_which_it_was_stopped(start: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with ScriptedCoordinator(sequence=moody(i0=f"wait for {gate}"), batch_timeout=2.0) as coordinator:
        worker = start(coordinator)
        route, hello = serve_one(coordinator)
        coordinator.grant(route, 1, [0])
        coordinator.expect(Heartbeat, lambda beat: beat.running == 1)
        settled(lambda: 0, quiet=0.5)  # by then the supervisor has seen it at work
        for pid in (worker.pid, hello.pid):
            os.kill(pid, signal.SIGSTOP)

        def beats_count() -> int:
            coordinator.poll(10)
            return len(coordinator.all_of(Children))

        before = settled(beats_count, quiet=2.0)
        for pid in (hello.pid, worker.pid):
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: beats_count() > before + 3, what="the supervisor's looking at its worker")
        gate.touch()
        assert set(coordinator.batches(1)) == {1}
        assert coordinator.all_of(WorkerExited) == []


def test_each_session_has_its_own_timeout(tmp_path: Path) -> None:
    trainer: Trainer | None = None
    try:
        for number, timeout in enumerate((None, TIMEOUT, None, TIMEOUT)):
            address, sequence = local_address(tmp_path / str(number)), moody(i0="hang", i1="sleep 1")
            with ScriptedCoordinator(address, Trust.LOCAL, sequence=sequence, batch_timeout=timeout) as coordinator:
                if trainer is None:
                    trainer = Trainer(coordinator, 1)
                else:
                    trainer.say({"connect": address, "secret": "02", "processes": 1})
                (supervisor,) = coordinator.let_in(Role.SUPERVISOR)
                route = coordinator.serve()
                # The same number in each session.
                coordinator.grant(route, 1, [0 if timeout else 1])
                if timeout:
                    _, exited = coordinator.expect(WorkerExited)
                    assert exited.running == 1 and exited.timed_out and "hang_for_ever" in exited.stack
                    (route,) = coordinator.let_in()
                else:
                    assert set(coordinator.batches(1)) == {1}
                    assert coordinator.all_of(WorkerExited) == []
                for each in (route, supervisor):
                    coordinator.send(each, Stop())
                coordinator.poll(100)
    finally:
        if trainer is not None:
            trainer.process.kill()
            trainer.leave()


def test_an_earlier_sessions_timeout_does_not_apply_before_the_supervisor_joins_the_next(start: Start) -> None:
    sequence = moody(i0="sleep 1")
    with ScriptedCoordinator(sequence=sequence, batch_timeout=TIMEOUT) as coordinator:
        start(coordinator)
        (supervisor,) = coordinator.let_in(Role.SUPERVISOR)
        for each in (supervisor, coordinator.serve()):
            coordinator.send(each, Stop())
        coordinator.expect(Hello, lambda hello: hello.role is Role.SUPERVISOR)
        coordinator.grant(coordinator.serve(), 1, [0])
        assert set(coordinator.batches(1)) == {1}
        assert coordinator.all_of(WorkerExited) == []


def test_an_overdue_worker_that_dies_before_it_is_killed_counts_as_timed_out(start: Start) -> None:
    with ScriptedCoordinator(sequence=moody(i0="die of the question"), batch_timeout=TIMEOUT) as coordinator:
        start(coordinator)
        route, first = serve_one(coordinator)
        coordinator.grant(route, 1, [0])
        _, exited = coordinator.expect(WorkerExited)
        assert exited == WorkerExited(first.incarnation, 0, -signal.SIGUSR2, 1, True, "")


def test_an_overdue_worker_that_finishes_before_it_is_killed_is_spared(start: Start) -> None:
    with ScriptedCoordinator(sequence=moody(i0="wake up when asked"), batch_timeout=TIMEOUT) as coordinator:
        worker = start(coordinator)
        route, _ = serve_one(coordinator)
        coordinator.grant(route, 1, [0, 1])
        assert set(coordinator.batches(2)) == {1, 2}
        wait_until(lambda: "has finished its batch after all" in worker.output(), what="its being spared")
        assert coordinator.all_of(WorkerExited) == []


def test_a_worker_stuck_in_an_earlier_sessions_batch_is_replaced_in_the_next(start: Start) -> None:
    with ScriptedCoordinator(sequence=moody(i0="hang"), batch_timeout=1.0) as coordinator:
        start(coordinator)
        (supervisor,) = coordinator.let_in(Role.SUPERVISOR)
        route = coordinator.serve()
        coordinator.grant(route, 1, [0])
        coordinator.expect(Heartbeat, lambda beat: beat.running == 1)
        for each in (route, supervisor):
            coordinator.send(each, Stop())
        coordinator.let_in(Role.SUPERVISOR)
        _, exited = coordinator.expect(WorkerExited)
        assert (exited.running, exited.timed_out) == (0, True) and "hang_for_ever" in exited.stack
