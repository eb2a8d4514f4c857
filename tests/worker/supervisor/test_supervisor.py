"""A real supervisor with real worker processes, remote and local."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from enqueuer.protocol.batch import Trust
from enqueuer.protocol.messages import (
    Bye,
    Children,
    Drain,
    Epoch,
    ExitCode,
    Goodbye,
    Heartbeat,
    Hello,
    LoadFailure,
    Reject,
    Role,
    Stop,
    WhoAreYou,
    WorkerExited,
)
from enqueuer_worker.settings import Settings
from enqueuer_worker.supervisor import supervisor as supervisor_module
from enqueuer_worker.supervisor.supervisor import Supervisor
from tests.support.leaks import alive, descendants
from tests.support.remote import REPOSITORY, RemoteWorker, environment
from tests.support.waiting import wait_until
from tests.worker.scripted_coordinator import ScriptedCoordinator

NUMBERS = ["tests.worker.sequences:Numbers", {}]

Start = Callable[..., RemoteWorker]


def moody(**moods: str) -> list[Any]:
    by_index = {name.removeprefix("i"): mood for name, mood in moods.items()}
    return ["tests.worker.sequences:Moody", {"moods": by_index}]


def is_worker(hello: Hello) -> bool:
    return hello.role is Role.WORKER


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts ``python -m enqueuer_worker``; killed after the test if it still runs."""
    started: list[RemoteWorker] = []

    def start_one(coordinator: ScriptedCoordinator, *arguments: str, processes: int = 1) -> RemoteWorker:
        log = tmp_path / f"log-{len(started)}"
        started.append(RemoteWorker(coordinator.address, log, processes, arguments))
        return started[-1]

    yield start_one
    for worker in started:
        worker.stop(timeout=0.1)


def has_ended(worker: RemoteWorker) -> int:
    wait_until(lambda: not worker.alive(), what="the end of the supervisor")
    return worker.stop()


# ---------------------------------------------------------------- remote


def test_a_supervisor_says_hello_and_lists_its_live_children(start: Start) -> None:
    with ScriptedCoordinator(sequence=NUMBERS) as coordinator:
        worker = start(coordinator, "--name", "box", processes=2)
        coordinator.let_in(Role.SUPERVISOR)
        coordinator.let_in(count=2)
        _, children = coordinator.expect(Children, lambda children: len(children.alive) == 2)
        hellos = coordinator.all_of(Hello)
    supervisor = next(hello for hello in hellos if hello.role is Role.SUPERVISOR)
    workers = {hello.worker_id: hello for hello in hellos if is_worker(hello)}
    assert (supervisor.worker_id, supervisor.pid) == ("box", worker.pid)
    assert set(workers) == {"box-0", "box-1"}
    assert {hello.supervisor for hello in hellos} == {supervisor.supervisor}
    assert set(children.alive) == {hello.incarnation for hello in workers.values()}


def test_a_killed_worker_is_reported_with_its_running_lease_and_restarted_at_once(start: Start) -> None:
    with ScriptedCoordinator(sequence=moody(i1="die")) as coordinator:
        worker = start(coordinator)
        coordinator.let_in(Role.SUPERVISOR)
        route = coordinator.serve()
        first = next(hello for hello in coordinator.all_of(Hello) if is_worker(hello))
        coordinator.grant(route, 1, [0, 1, 2])
        _, exited = coordinator.expect(WorkerExited)
        assert exited == WorkerExited(first.incarnation, 0, -signal.SIGKILL, 2)
        _, second = coordinator.expect(Hello, is_worker)
        assert second.incarnation != first.incarnation and second.child_number == 0
    assert "worker 0 was killed by SIGKILL (out of memory?); starting it again at once" in worker.output()


def test_a_death_without_a_coordinator_is_reported_to_it_later(start: Start) -> None:
    with ScriptedCoordinator(sequence=NUMBERS) as first:
        start(first)
        first.let_in(Role.SUPERVISOR)
        _, hello = first.expect(Hello, is_worker)
        address = first.address
    os.kill(hello.pid, signal.SIGKILL)
    with ScriptedCoordinator(address) as second:
        second.let_in(Role.SUPERVISOR)
        _, exited = second.expect(WorkerExited)
        assert exited.incarnation == hello.incarnation


def test_a_stopped_child_is_not_listed_as_alive(start: Start) -> None:
    with ScriptedCoordinator(sequence=NUMBERS) as coordinator:
        start(coordinator)
        coordinator.let_in(Role.SUPERVISOR)
        _, hello = coordinator.expect(Hello, is_worker)
        coordinator.expect(Children, lambda children: children.alive == (hello.incarnation,))
        os.kill(hello.pid, signal.SIGSTOP)
        coordinator.expect(Children, lambda children: not children.alive)
        os.kill(hello.pid, signal.SIGCONT)
        coordinator.expect(Children, lambda children: children.alive == (hello.incarnation,))


@pytest.mark.proves("a remote worker cannot import or build it")
def test_a_worker_refused_repeatedly_is_restarted_ever_more_rarely(start: Start) -> None:
    with ScriptedCoordinator(sequence=["tests.worker.sequences:broken", {}]) as coordinator:
        worker = start(coordinator, "--log-level", "debug")
        coordinator.let_in(Role.SUPERVISOR)
        for _ in range(2):
            (route,) = coordinator.let_in()
            coordinator.send(route, Epoch(0, 0, 7, None))
            coordinator.expect(LoadFailure)
            coordinator.send(route, Reject("it cannot build the Sequence"))
            coordinator.expect(WorkerExited, lambda exited: exited.exit_code == ExitCode.REFUSED)
        wait_until(lambda: "again in 1 s" in worker.output(), what="the second, longer pause")
    assert "again in 0.5 s" in worker.output()
    assert "the dataset is not here" in worker.output()


def test_who_are_you_makes_a_supervisor_say_hello_again(start: Start) -> None:
    with ScriptedCoordinator() as coordinator:
        start(coordinator)
        (route,) = coordinator.let_in(Role.SUPERVISOR)
        coordinator.send(route, WhoAreYou(), session=b"")
        coordinator.expect(Hello, lambda hello: hello.role is Role.SUPERVISOR)


def test_who_are_you_makes_a_supervisor_report_unconfirmed_deaths_again(start: Start) -> None:
    with ScriptedCoordinator() as coordinator:
        start(coordinator)
        (route,) = coordinator.let_in(Role.SUPERVISOR)
        _, hello = coordinator.expect(Hello, lambda hello: hello.role is Role.WORKER)
        os.kill(hello.pid, signal.SIGKILL)
        _, told = coordinator.expect(WorkerExited)
        coordinator.send(route, WhoAreYou(), session=b"")
        coordinator.let_in(Role.SUPERVISOR)
        _, again = coordinator.expect(WorkerExited)
        assert again == told


def test_a_rejected_supervisor_says_why_and_tries_again(start: Start) -> None:
    with ScriptedCoordinator() as coordinator:
        worker = start(coordinator, "--max-reconnect-interval", "0.2")
        route, _ = coordinator.expect(Hello, lambda hello: hello.role is Role.SUPERVISOR)
        coordinator.send(route, Reject("too old"), session=b"")
        again, _ = coordinator.expect(Hello, lambda hello: hello.role is Role.SUPERVISOR)
        assert again != route
    assert "too old" in worker.output()


def test_sigterm_drains_and_exits_with_0(start: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with ScriptedCoordinator(sequence=moody(i0=f"wait for {gate}")) as coordinator:
        worker = start(coordinator)
        coordinator.let_in(Role.SUPERVISOR)
        route = coordinator.serve()
        coordinator.grant(route, 1, [0])
        coordinator.expect(Heartbeat, lambda beat: beat.running == 1)
        os.kill(worker.pid, signal.SIGTERM)
        coordinator.expect(Drain)
        gate.touch()
        coordinator.expect(Goodbye)
        coordinator.send(route, Bye())
        coordinator.expect(WorkerExited, lambda exited: exited.exit_code == ExitCode.DONE)
        assert has_ended(worker) == 0
    assert "SIGTERM: draining" in worker.output() and "all workers have left" in worker.output()


def test_a_preemption_notice_drains_and_a_signal_after_it_does_not_stop_at_once(start: Start, tmp_path: Path) -> None:
    gate, notice = tmp_path / "gate", tmp_path / "notice"
    with ScriptedCoordinator(sequence=moody(i0=f"wait for {gate}")) as coordinator:
        worker = start(coordinator, "--preemption-notice", str(notice), "--requeue-exit-code", "75")
        coordinator.let_in(Role.SUPERVISOR)
        route = coordinator.serve()
        coordinator.grant(route, 1, [0])
        coordinator.expect(Heartbeat, lambda beat: beat.running == 1)
        notice.touch()
        coordinator.expect(Drain)
        os.kill(worker.pid, signal.SIGTERM)
        wait_until(lambda: "SIGTERM: draining already" in worker.output(), what="the signal in the log")
        gate.touch()
        coordinator.expect(Goodbye)
        assert coordinator.batches(1)[1][0] == 0
        coordinator.send(route, Bye())
        assert has_ended(worker) == 75
    assert f"preemption notice: {notice} is there: draining, for 30 s at most" in worker.output()


def test_a_signal_need_not_wait_until_all_of_many_processes_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "_STARTING_SECONDS", 0.0)
    settings = Settings(connect="tcp://127.0.0.1:1", supervisor="00" * 16, name="many")

    class Signalled(Supervisor):
        def step(self, ready: dict[Any, int]) -> None:
            if len(self._children()) == 2:
                os.kill(os.getpid(), signal.SIGINT)  # twice in a row: the second one stops at once
            super().step(ready)
            numbers.update(child.number for child in self._children())

    numbers: set[int] = set()
    assert Signalled(settings, 10_000, logging.getLogger("many")).run() in (0, 128 + signal.SIGINT)
    assert numbers and max(numbers) < 10


def test_the_end_of_a_lifetime_drains(start: Start) -> None:
    with ScriptedCoordinator() as coordinator:
        worker = start(coordinator, "--lifetime", "0.5s", "--lifetime-stagger", "0.4s", "--requeue-exit-code", "75")
        assert has_ended(worker) == 75
    assert "the lifetime is over: draining" in worker.output()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    with ScriptedCoordinator(sequence=moody(i0=f"wait for {tmp_path}/never")) as coordinator:
        worker = start(coordinator)
        coordinator.let_in(Role.SUPERVISOR)
        route = coordinator.serve()
        coordinator.grant(route, 1, [0])
        coordinator.expect(Heartbeat, lambda beat: beat.running == 1)
        children = descendants(worker.pid)
        os.kill(worker.pid, number)
        coordinator.expect(Drain)

        def is_stopping() -> bool:
            os.kill(worker.pid, number)  # again and again: a SIGTERM at once after the first is none of its own
            return "stopping at once" in worker.output()

        wait_until(is_stopping, what="the end at once")
        coordinator.expect(WorkerExited, lambda exited: exited.exit_code == -signal.SIGKILL)
        assert has_ended(worker) == 128 + number
    assert not alive(children)


def test_a_drain_ends_at_its_deadline(start: Start, tmp_path: Path) -> None:
    with ScriptedCoordinator(sequence=moody(i0=f"wait for {tmp_path}/never")) as coordinator:
        worker = start(coordinator, "--drain-timeout", "0.2")
        coordinator.let_in(Role.SUPERVISOR)
        route = coordinator.serve()
        coordinator.grant(route, 1, [0])
        coordinator.expect(Heartbeat, lambda beat: beat.running == 1)
        os.kill(worker.pid, signal.SIGTERM)
        assert has_ended(worker) == 0
    assert "deadline" in worker.output()


def test_a_supervisor_for_one_session_exits_with_it(start: Start) -> None:
    with ScriptedCoordinator(sequence=NUMBERS) as coordinator:
        worker = start(coordinator, "--once", "--lifetime", "2h", "--requeue-exit-code", "75", processes=2)
        coordinator.let_in(Role.SUPERVISOR)
        for route in coordinator.let_in(count=2):
            coordinator.send(route, Stop())
        assert has_ended(worker) == 0


def test_a_supervisor_for_one_session_ends_with_it_although_a_worker_was_just_starting(start: Start) -> None:
    with ScriptedCoordinator(sequence=NUMBERS) as coordinator:
        worker = start(coordinator, "--once")
        (route,) = coordinator.let_in(Role.SUPERVISOR)
        coordinator.expect(Hello, is_worker)  # never answered
        coordinator.send(route, Stop())
        assert has_ended(worker) == 0
        coordinator.poll()
    supervisors = [hello for hello in coordinator.all_of(Hello) if hello.role is Role.SUPERVISOR]
    assert len({hello.incarnation for hello in supervisors}) == 1
    assert "no trainer" not in worker.output() and "trying again" not in worker.output().lower()


def test_a_supervisor_for_one_session_fails_if_its_worker_is_refused(start: Start) -> None:
    with ScriptedCoordinator() as coordinator:
        worker = start(coordinator, "--once")
        route, _ = coordinator.expect(Hello, is_worker)
        coordinator.send(route, Reject("another NumPy"), session=b"")
        assert has_ended(worker) == 1
    assert "another NumPy" in worker.output()


def test_a_reason_for_which_all_workers_are_refused_is_told_once(start: Start) -> None:
    with ScriptedCoordinator(sequence=["tests.worker.sequences:broken", {}]) as coordinator:
        worker = start(coordinator, processes=2)
        coordinator.let_in(Role.SUPERVISOR)
        refused_count = 0
        while refused_count < 6:
            (route,) = coordinator.let_in()
            coordinator.send(route, Epoch(0, 0, 7, None))
            coordinator.expect(LoadFailure)
            coordinator.send(route, Reject("it cannot build the Sequence"))
            coordinator.expect(WorkerExited, lambda exited: exited.exit_code == ExitCode.REFUSED)
            refused_count += 1
    told = worker.output()
    assert "the trainer rejected this worker: it cannot build the Sequence" in told
    assert told.count("Traceback") == 1 and told.count("joined a session") == 1


def test_a_rejection_before_the_supervisor_is_welcome_is_not_told_anew_after_it(start: Start) -> None:
    with ScriptedCoordinator(sequence=["tests.worker.sequences:broken", {}]) as coordinator:
        worker = start(coordinator)
        for number in range(3):
            (route,) = coordinator.let_in()
            coordinator.send(route, Epoch(0, 0, 7, None))
            coordinator.expect(LoadFailure)
            coordinator.send(route, Reject("it cannot build the Sequence"))
            if number == 0:
                wait_until(lambda: "rejected this worker" in worker.output(), what="the rejection in the log")
                coordinator.let_in(Role.SUPERVISOR)
        wait_until(lambda: "joined a session" in worker.output(), what="the session in the log")
    assert worker.output().count("Traceback") == 1


def test_the_log_tells_when_a_coordinator_goes_and_comes_back(start: Start) -> None:
    with ScriptedCoordinator(sequence=NUMBERS) as first:
        address = first.address
        worker = start(first)
        (route,) = first.let_in(Role.SUPERVISOR)
        first.send(route, Stop())
        wait_until(lambda: "the session has ended" in worker.output())
        first.let_in(Role.SUPERVISOR)
        wait_until(lambda: worker.output().count("joined a session") == 2)
    wait_until(lambda: "no trainer listens at" in worker.output())
    with ScriptedCoordinator(address) as second:
        second.let_in(Role.SUPERVISOR)
        second.expect(Hello, is_worker)
    assert "the trainer is gone; trying again in 0.1 s" in worker.output()
    assert f"1 worker for the trainer at {address}" in worker.output()


def test_json_logs_are_one_object_a_line(start: Start) -> None:
    with ScriptedCoordinator() as coordinator:
        worker = start(coordinator, "--log-json", "--name", "box")
        coordinator.let_in(Role.SUPERVISOR)
        os.kill(worker.pid, signal.SIGTERM)
        assert has_ended(worker) == 0
    lines = [json.loads(line) for line in worker.output().splitlines()]
    assert {line["logger"] for line in lines} >= {"enqueuer.worker.box"}
    assert all(logging.getLevelName(line["level"]) and line["message"] and line["time"] for line in lines)


# ---------------------------------------------------------------- local


class Trainer:
    """Starts and talks to a local supervisor as a trainer does."""

    def __init__(self, coordinator: ScriptedCoordinator, processes: int, **config: Any) -> None:
        first = {
            "connect": coordinator.address,
            "secret": "01",
            "supervisor": "cd" * 16,
            "processes": processes,
            "sys_path": [str(REPOSITORY), *sys.path],
            "trainer_pid": os.getpid(),
            "heartbeat_interval": 0.1,
            **config,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "enqueuer_worker.local"],
            stdin=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
            bufsize=0,
        )
        self.say(first)

    def say(self, line: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line).encode() + b"\n")

    def leave(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(10)


@pytest.fixture
def train() -> Iterator[Callable[..., Trainer]]:
    trainers: list[Trainer] = []

    def train_with(*arguments: Any, **config: Any) -> Trainer:
        trainers.append(Trainer(*arguments, **config))
        return trainers[-1]

    yield train_with
    for trainer in trainers:
        trainer.process.kill()
        trainer.leave()


def local_address(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    return f"ipc://{folder}/control"


def test_the_end_of_stdin_ends_a_local_supervisor_and_its_busy_workers(
    train: Callable[..., Trainer], tmp_path: Path
) -> None:
    sequence = moody(i0=f"wait for {tmp_path}/never")
    with ScriptedCoordinator(local_address(tmp_path), Trust.LOCAL, sequence=sequence) as coordinator:
        trainer = train(coordinator, 2)
        route = coordinator.serve()
        coordinator.grant(route, 1, [0])
        coordinator.expect(Heartbeat, lambda beat: beat.running == 1)
        children = descendants(trainer.process.pid)
        assert len(children) == 2
        assert trainer.leave() == 0
    assert not children & descendants(1) and not alive(children)


def test_signals_do_not_end_a_local_supervisor(train: Callable[..., Trainer], tmp_path: Path) -> None:
    with ScriptedCoordinator(local_address(tmp_path), Trust.LOCAL, sequence=NUMBERS) as coordinator:
        trainer = train(coordinator, 1)
        coordinator.let_in(Role.SUPERVISOR)
        route = coordinator.serve()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(trainer.process.pid, number)
        coordinator.grant(route, 1, [3])
        assert coordinator.batches(1)[1][0] == 3
        for _ in range(3):
            coordinator.expect(Children)


def test_the_next_session_keeps_processes_up_to_the_number_it_wants(
    train: Callable[..., Trainer], tmp_path: Path
) -> None:
    with ScriptedCoordinator(local_address(tmp_path / "1"), Trust.LOCAL) as first:
        trainer = train(first, 2)
        (route,) = first.let_in(Role.SUPERVISOR)
        routes = first.let_in(count=2)
        known = {hello.incarnation for hello in first.all_of(Hello) if is_worker(hello)}
        for each in (route, *routes):
            first.send(each, Stop())
        first.poll(100)
    for folder, count in (("2", 3), ("3", 1)):
        with ScriptedCoordinator(local_address(tmp_path / folder), Trust.LOCAL) as following:
            trainer.say({"connect": following.address, "secret": "02", "processes": count})
            routes = [*following.let_in(Role.SUPERVISOR), *following.let_in(count=count)]
            vouched = 0
            while vouched != count:
                vouched = len(following.expect(Children)[1].alive)
            hellos = [hello for hello in following.all_of(Hello) if is_worker(hello)]
            now = {hello.incarnation for hello in hellos}
            assert {hello.secret for hello in hellos} == {b"\2"}
            assert now >= known if count == 3 else known >= now
            known = now
            for each in routes:
                following.send(each, Stop())
            following.poll(100)


def test_workers_are_gone_soon_after_their_trainer_was_killed(tmp_path: Path) -> None:
    program = """
import os, sys, time
from tests.worker.supervisor.test_supervisor import Trainer
class Coordinator: address = sys.argv[1]
trainer = Trainer(Coordinator, 1)
if os.fork() == 0:
    time.sleep(30)  # holds the other end of the supervisor's stdin
    os._exit(0)
print(trainer.process.pid, flush=True)
time.sleep(30)
"""
    with ScriptedCoordinator(local_address(tmp_path), Trust.LOCAL) as coordinator:
        trainer = subprocess.Popen(
            [sys.executable, "-c", program, coordinator.address],
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            env=environment(),
            start_new_session=True,
        )
        assert trainer.stdout is not None
        supervisor = int(trainer.stdout.readline())
        coordinator.let_in()
        family = {supervisor, *descendants(supervisor)}
        assert len(family) == 2
        trainer.kill()
        trainer.wait()
        wait_until(lambda: not alive(family), what="the end of the supervisor and its worker")
        # The forked process has held stdin open.
        os.killpg(trainer.pid, signal.SIGKILL)
        trainer.stdout.close()
