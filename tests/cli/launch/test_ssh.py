from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from enqueuer import SequenceEnqueuer
from enqueuer.cli.main import main
from enqueuer.security.key_directory import KeyDirectory
from tests.support.observed import own_directory
from tests.support.sequences import Bare
from tests.support.waiting import wait_until

ADDRESSES = ("--connect", "tcp://0.0.0.0:5555", "--data-connect", "tcp://localhost:5556")


@pytest.fixture(autouse=True)
def own_trainers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with own_directory(monkeypatch):
        yield


def launch(*arguments: str, behind: tuple[str, ...] = ("--allow", "mydata")) -> Result:
    return CliRunner().invoke(main, ["launch", "ssh", *arguments, "--", *behind])


def test_a_dry_run_prints_one_command_a_host_without_the_token(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path)
    keys.create()
    token = keys.token_file("worker")
    result = launch("gpu-1:8", "ann@gpu-2", *ADDRESSES, "--token-file", str(token), "--dry-run", "-o", "Port=2222")
    assert result.exit_code == 0, result.output
    first, second = (shlex.split(line) for line in result.output.splitlines())
    assert first[-2] == "gpu-1" and "--processes 8 --allow mydata" in first[-1]
    assert second[-2] == "ann@gpu-2" and "--processes auto" in second[-1] and "Port=2222" in second
    assert token.read_text().strip() not in result.output and "--token-file -" in first[-1]


def test_the_running_trainer_is_found() -> None:
    with SequenceEnqueuer(Bare(length=6), bind="tcp://127.0.0.1:*") as enqueuer:
        enqueuer.start(workers=1)
        assert enqueuer.endpoint is not None
        # On a busy machine it may not answer in time.
        wait_until(lambda: launch("gpu", "--insecure", "--dry-run").exit_code == 0, 60.0, "an answer of the trainer")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gpu", *ADDRESSES), "every user of these hosts could connect to the trainer"),
        (("gpu::2", "--insecure"), "HOST:PROCESSES (a number or 'auto')"),
        (("gpu", "--insecure", "--processes", "0"), "--processes must be 'auto' or a number"),
        (("gpu", "--insecure", "--data-connect", "tcp://a:1"), "--data-connect needs --connect tcp://host:port"),
        (("gpu", "--insecure", "--connect", "a:1"), "--connect must be the trainer's address"),
        (("gpu", "--insecure", "--dry-run"), "no trainer of yours with bind=… runs on this machine: start it"),
        (("gpu", "--token-file", "/nonexistent/worker.token"), "cannot read /nonexistent/worker.token"),
        ((), "Missing argument"),
    ],
)
def test_a_mistake_is_one_error_and_exit_code_2(arguments: tuple[str, ...], words: str) -> None:
    result = launch(*arguments)
    assert result.exit_code == 2 and words in result.output, result.output


def test_a_worker_that_may_import_nothing_is_an_error() -> None:
    result = launch("gpu", "--insecure", behind=())
    assert result.exit_code == 2 and "-- --allow PACKAGE" in result.output


def test_an_option_that_the_worker_does_not_have_is_an_error_before_any_host_is_asked() -> None:
    result = launch("gpu", "--insecure", behind=("--allow", "mydata", "--alow", "x"))
    assert result.exit_code == 2 and "No such option '--alow'" in result.output
