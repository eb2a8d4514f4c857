"""The supervisor of the local processes: real processes, watched by the test as by the I/O thread."""

from __future__ import annotations

import multiprocessing.spawn
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from enqueuer.errors import ConfigurationError
from enqueuer.protocol.batch import Trust
from enqueuer.protocol.messages import Hello, Role
from enqueuer.runtime import local_processes
from enqueuer.runtime.local_processes import LocalProcesses, Surroundings
from tests.support.leaks import alive, descendants, resources
from tests.support.waiting import wait_until
from tests.worker.scripted_coordinator import ScriptedCoordinator

DEADLINE = 30.0
SECRET = b"the secret"

pytestmark = pytest.mark.usefixtures("own_temporary_directory")


class Trainer:
    """Calls the callbacks of watched descriptors when the test calls `look`."""

    def __init__(self, directory: Path) -> None:
        self.processes = LocalProcesses(worker_threads=1, heartbeat_interval=0.2)
        self.address = f"ipc://{directory}/control"
        self.deaths: list[bytes] = []
        self.hopeless: list[str] = []
        self._watched: dict[int, Callable[[], None]] = {}

    def attach(self, processes: int = 1, address: str | None = None) -> None:
        self.processes.attach(
            surroundings=Surroundings.now(),
            connect=address or self.address,
            secret=SECRET,
            processes=processes,
            watch=self._watched.__setitem__,
            on_death=self.deaths.append,
            on_hopeless=self.hopeless.append,
        )

    @property
    def pid(self) -> int:
        process = self.processes._process
        assert process is not None
        return process.pid

    def look(self) -> None:
        """Wait for the next end of a supervisor, and act on it."""
        readable, _, _ = select.select(list(self._watched), [], [], DEADLINE)
        assert readable, "no supervisor ended"
        for fd in readable:
            self._watched.pop(fd)()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.look()


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    made = Trainer(tmp_path)
    yield made
    made.processes.stop(5.0)


@pytest.fixture
def coordinator(trainer: Trainer) -> Iterator[ScriptedCoordinator]:
    with ScriptedCoordinator(trainer.address, Trust.LOCAL) as made:
        yield made


def test_start_starts_a_supervisor_with_address_secret_and_number_of_workers(
    trainer: Trainer, coordinator: ScriptedCoordinator
) -> None:
    trainer.attach(processes=2)
    _, supervisor = coordinator.expect(Hello, lambda hello: hello.role is Role.SUPERVISOR)
    assert (supervisor.pid, supervisor.secret) == (trainer.pid, SECRET)
    workers: dict[int, Hello] = {}
    while len(workers) < 2:
        _, hello = coordinator.expect(Hello, lambda hello: hello.role is Role.WORKER)
        workers[hello.child_number] = hello
    assert {hello.supervisor for hello in workers.values()} == {supervisor.supervisor}
    assert {hello.pid for hello in workers.values()} <= descendants(trainer.pid)


def test_the_death_of_a_supervisor_is_reported_and_its_successor_has_another_id(
    trainer: Trainer, coordinator: ScriptedCoordinator
) -> None:
    trainer.attach()
    _, first = coordinator.expect(Hello, lambda hello: hello.role is Role.SUPERVISOR)
    trainer.kill()
    assert trainer.deaths == [first.supervisor]
    _, second = coordinator.expect(Hello, lambda hello: hello.supervisor != first.supervisor)
    assert (second.pid, second.secret) == (trainer.pid, SECRET)
    assert trainer.hopeless == []


def test_a_fork_in_another_thread_keeps_no_end_of_the_pipes_open(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked: list[int] = []
    threads: list[threading.Thread] = []

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            time.sleep(2 * DEADLINE)
            os._exit(0)
        forked.append(pid)

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            threads.append(threading.Thread(target=fork))
            threads[-1].start()
            threads[-1].join(0.5)  # it waits until the start is over
            super().__init__(*arguments, **options)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "Popen", Popen)
            trainer.attach()
        threads[0].join(DEADLINE)
        os.kill(trainer.pid, signal.SIGKILL)
        trainer.look()
        assert len(trainer.deaths) == 1
    finally:
        for pid in forked:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_three_early_deaths_in_a_row_are_reported_as_hopeless(trainer: Trainer) -> None:
    trainer.attach()
    for _ in range(3):
        assert trainer.hopeless == []
        trainer.kill()
    assert len(set(trainer.deaths)) == 3
    (reason,) = trainer.hopeless
    assert "died 3 times in a row (exit code -9)" in reason


def test_the_death_of_an_old_supervisor_is_no_early_death(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer.attach()
    trainer.kill()
    trainer.kill()
    monkeypatch.setattr(local_processes, "_YOUNG_SECONDS", 0.0)
    trainer.kill()
    monkeypatch.undo()
    trainer.kill()
    assert trainer.hopeless == [] and len(trainer.deaths) == 4


def test_stop_ends_the_supervisor_and_its_workers_and_leaves_nothing(
    trainer: Trainer, coordinator: ScriptedCoordinator
) -> None:
    before = resources()
    trainer.attach(processes=2)
    for _ in range(2):
        coordinator.expect(Hello, lambda hello: hello.role is Role.WORKER)
    pids = {trainer.pid, *descendants(trainer.pid)}
    assert len(pids) == 3
    trainer.processes.stop(10.0)
    assert not alive(pids)
    trainer.processes.stop(10.0)
    assert [left for left in resources().beyond(before) if "thread" not in left] == []
    assert trainer.deaths == []


def test_stop_kills_hanging_processes_in_time(trainer: Trainer, coordinator: ScriptedCoordinator) -> None:
    trainer.attach(processes=1)
    _, worker = coordinator.expect(Hello, lambda hello: hello.role is Role.WORKER)
    pids = {trainer.pid, worker.pid}
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    trainer.processes.stop(0.5)
    assert time.monotonic() - began < 3.0
    wait_until(lambda: not alive(pids), what="their end")


def test_a_supervisor_that_dies_during_stop_is_not_replaced(trainer: Trainer) -> None:
    trainer.attach()
    callbacks = list(trainer._watched.values())
    trainer.processes.stop(5.0)
    for callback in callbacks:
        callback()
    assert trainer.deaths == []
    assert trainer.processes._process is None


def test_after_stop_the_processes_can_serve_again_and_a_death_is_reported(
    trainer: Trainer, coordinator: ScriptedCoordinator
) -> None:
    trainer.attach()
    trainer.processes.stop(5.0)
    trainer._watched.clear()
    trainer.attach()
    first = trainer.pid
    trainer.kill()
    assert len(trainer.deaths) == 1 and trainer.pid != first


def test_a_running_supervisor_goes_over_to_the_next_session(
    trainer: Trainer, coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    trainer.attach()
    coordinator.expect(Hello, lambda hello: hello.role is Role.SUPERVISOR)
    first = trainer.pid
    (tmp_path / "next").mkdir()
    with ScriptedCoordinator(f"ipc://{tmp_path}/next/control", Trust.LOCAL) as following:
        trainer.attach(address=following.address)
        assert trainer.pid == first
        _, hello = following.expect(Hello, lambda hello: hello.role is Role.SUPERVISOR)
        assert hello.pid == first
        trainer.kill()
        assert trainer.deaths == [hello.supervisor]


def test_a_supervisor_that_died_between_two_sessions_is_replaced(trainer: Trainer) -> None:
    trainer.attach()
    first = trainer.processes._process
    assert first is not None
    trainer._watched.clear()
    first.kill()
    first.wait()
    trainer.attach()
    assert trainer.pid != first.pid


def test_disarming_closes_the_pipes_and_leaves_the_rest_alone(trainer: Trainer) -> None:
    """Disarming is for a forked child. Here, in the trainer itself, it closes the supervisor's stdin."""
    before = resources()
    trainer.attach()
    process = trainer.processes._process
    assert process is not None
    trainer.processes.disarm()
    assert process.wait(DEADLINE) == 0
    trainer.processes.stop(5.0)
    assert resources().beyond(before) == []


def test_a_program_that_cannot_be_started_leaves_no_descriptor(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = resources()
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/nonexistent/python")
    with pytest.raises(ConfigurationError, match=r"'/nonexistent/python'.*multiprocessing\.set_executable"):
        trainer.attach()
    assert resources().beyond(before) == []
    monkeypatch.undo()
    trainer.attach()
    assert isinstance(trainer.processes._process, subprocess.Popen)
