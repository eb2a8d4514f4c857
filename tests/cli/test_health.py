"""`enqueuer health` against real trainers and workers, as in a container's health check."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from enqueuer import SequenceEnqueuer
from enqueuer.cli.main import main
from enqueuer.monitoring.health import DIRECTORY_VARIABLE
from tests.integration.programs import Workers
from tests.support.chaos_sequences import Steady
from tests.support.sequences import as_spec
from tests.support.waiting import wait_until


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run"
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(path))
    return path


def ask(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["health", *arguments])
    return result.exit_code, result.output


def test_a_trainer_is_well_while_it_runs_and_absent_afterwards(directory):
    with SequenceEnqueuer(range(10)) as enqueuer:
        enqueuer.start(1)
        next(enqueuer.get())
        code, output = ask("--ready")
        assert code == 0, output
        assert f"trainer (pid {os.getpid()}): workers 1, epoch 0, taken " in output
    code, output = ask()
    assert (code, output) == (1, f"no enqueuer runs here: {directory} has no health socket\n")
    assert ask("--idle-ok")[0] == 0
    assert list(directory.iterdir()) == []


def test_a_trainer_without_workers_is_well_but_not_ready(directory):
    with SequenceEnqueuer(range(10), bind="tcp://127.0.0.1:0") as enqueuer:
        enqueuer.start(0)
        assert ask()[0] == 0
        assert ask("--ready")[0] == 1


def test_a_worker_is_ready_once_it_has_found_its_trainer_and_unhealthy_when_it_is_stopped(directory, tmp_path):
    with SequenceEnqueuer(range(10), bind="tcp://127.0.0.1:0") as enqueuer:
        enqueuer.start(0)
        address = enqueuer.endpoint
    with Workers([], address, log=tmp_path / "log") as workers:
        wait_until(lambda: ask()[0] == 0, 30.0, "a worker that answers")
        code, output = ask("--ready")
        assert code == 1
        assert f"trainer {address}, processes 1, draining False" in output
        with SequenceEnqueuer(as_spec(Steady(10, 0.0, 0)), bind=address) as enqueuer:
            enqueuer.start(0)
            wait_until(lambda: "worker" in (said := ask("--ready"))[1] and said[0] == 0, 30.0, "a worker in a session")
            (pid,) = {int(line.split("pid ")[1].split(")")[0]) for line in said_of("worker")}
            os.kill(pid, signal.SIGSTOP)
            code, output = ask("--timeout", "0.3")
            assert code == 1
            assert "unhealthy: no answer within 0.3 s" in output
            os.kill(pid, signal.SIGCONT)
    assert "all workers have left" in workers.output()


def said_of(role: str) -> list[str]:
    return [line for line in ask()[1].splitlines() if line.startswith(role)]


def test_a_directory_that_others_may_enter_is_an_error_in_one_line(directory):
    directory.mkdir(mode=0o755)
    code, output = ask()
    assert code == 1
    assert output == f"Error: {directory} must belong to this user alone: chmod 700 {directory}\n"


def test_a_file_in_place_of_the_directory_is_an_error_in_one_line(directory):
    directory.touch(mode=0o644)
    code, output = ask()
    assert code == 1
    assert output == f"Error: {directory} is not a directory: give one that belongs to this user alone\n"


def test_health_without_a_directory_is_the_callers_error(monkeypatch):
    monkeypatch.delenv(DIRECTORY_VARIABLE, raising=False)
    code, output = ask()
    assert code == 2
    assert "ENQUEUER_RUNTIME_DIR" in output
