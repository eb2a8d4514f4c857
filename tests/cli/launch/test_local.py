from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from enqueuer import SequenceEnqueuer, SequenceSpec
from enqueuer.cli.main import main
from tests.support.observed import own_directory
from tests.support.remote import REPOSITORY, environment
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def own_trainers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with own_directory(monkeypatch):
        yield


def dry_run(*options: str) -> Result:
    return CliRunner().invoke(main, ["launch", "local", "--dry-run", *options, "--", "--allow", "p", "--name", "a b"])


def test_a_dry_run_prints_the_workers_command_and_waits_for_no_trainer() -> None:
    result = dry_run("--connect", "tcp://127.0.0.1:5555")
    assert result.exit_code == 0
    assert result.output == "enqueuer worker --connect tcp://127.0.0.1:5555 --processes auto --allow p --name 'a b'\n"
    result = dry_run()
    assert result.exit_code == 2
    assert "no trainer of yours with bind=… runs on this machine: start it, or give --connect" in result.output


def test_workers_in_a_second_shell_wait_for_the_users_trainer_and_serve_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as sink:
        launch = subprocess.Popen(
            [sys.executable, "-m", "enqueuer", "launch", "local", "--processes", "2", "--", "--allow", "tests"],
            cwd=REPOSITORY,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    try:
        wait_until(lambda: "no trainer of yours with bind=… runs on this machine" in log.read_text(), 60.0, "the look")
        spec = SequenceSpec("tests.support.sequences:Bare", length=6)
        with SequenceEnqueuer(spec, bind="tcp://127.0.0.1:*", min_workers=2) as enqueuer:
            enqueuer.start(workers=0)
            # On a busy machine it may not answer in time.
            wait_until(lambda: dry_run().exit_code == 0, 60.0, "an answer of the trainer")
            assert dry_run("--processes", "3").output == (
                f"enqueuer worker --connect {enqueuer.endpoint} --processes 3 --allow p --name 'a b'\n"
            )
            assert [int(index) for _, index in enqueuer.epoch()] == list(range(6))
        launch.send_signal(signal.SIGINT)
        assert launch.wait(60) == 0, log.read_text()
    finally:
        launch.kill()
        launch.wait()


def test_a_mistake_is_an_error_before_the_wait() -> None:
    result = CliRunner().invoke(main, ["launch", "local"])
    assert result.exit_code == 2 and "-- --allow PACKAGE" in result.output
    result = CliRunner().invoke(main, ["launch", "local", "--", "--allow", "p", "--processes", "2"])
    assert result.exit_code == 2 and "--processes stands behind `--`" in result.output
    result = CliRunner().invoke(main, ["launch", "local", "--", "--allow", "p", "--alow", "q"])
    assert result.exit_code == 2 and "No such option '--alow'" in result.output
    for address in ("nonsense", "tcp://127.0.0.1:*"):
        result = CliRunner().invoke(main, ["launch", "local", "--connect", address, "--", "--allow", "p"])
        assert result.exit_code == 2 and "--connect must be the trainer's address" in result.output
