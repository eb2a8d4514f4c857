"""The command `enqueuer status`: what it prints, and its exit codes, against running trainers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from enqueuer import SequenceEnqueuer
from enqueuer.cli.main import main
from enqueuer.core.verdict import Cause
from enqueuer.runtime import views
from enqueuer.security.key_directory import KeyDirectory
from tests.support.observed import own_directory
from tests.support.sequences import Bare


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("ENQUEUER_TOKEN", "ENQUEUER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    with own_directory(monkeypatch) as path:
        yield path


@pytest.fixture
def trainer() -> Iterator[SequenceEnqueuer]:
    with SequenceEnqueuer(Bare(length=6)) as enqueuer:
        enqueuer.start(workers=2)
        next(enqueuer.get())
        yield enqueuer


def status(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["status", "--timeout", "30", *arguments])


def test_without_a_trainer_the_exit_code_is_two() -> None:
    result = status()
    assert result.exit_code == 2 and "you run no trainer on this machine" in result.output
    result = status("tcp://127.0.0.1:1", "--timeout", "0.5")
    assert result.exit_code == 2 and "nothing answers at this address" in result.output
    result = status("unix:///nowhere.trainer")
    assert result.exit_code == 2 and "no trainer runs there" in result.output
    assert "you run no trainer" not in result.output, "it was not looked for"
    assert status("--json").stdout.strip() == "[]"


@pytest.mark.parametrize(
    "address", ["trainer", "tcp://trainer", "http://trainer:80", "tcp://trainer:*", "tcp://*:5555", "tcp://::1:5555"]
)
def test_an_impossible_address_is_refused_in_one_line(address: str) -> None:
    result = status(address)
    assert result.exit_code == 2 and "is no address: tcp://HOST:PORT" in result.output
    assert result.output.count("\n") == 1


def test_the_address_of_all_interfaces_is_refused_with_what_to_put_in_its_place() -> None:
    assert "put the trainer's host in place of '*'" in status("tcp://*:5555").output


def test_the_trainers_of_this_user_are_found_and_described(trainer: SequenceEnqueuer) -> None:
    result = status()
    assert result.exit_code == 0
    assert f"trainer {os.getpid()} on" in result.output and "epoch     0, 1 of 6 batches taken" in result.output
    with SequenceEnqueuer(Bare(length=9)) as other:
        other.start(workers=1)
        assert status().output.count(f"trainer {os.getpid()} on") == 2


@pytest.mark.parametrize(
    ("cause", "exit_code"), [(Cause.TOO_EARLY, 0), (Cause.NOTHING, 0), (Cause.WORKERS, 1), (Cause.NO_WORKERS, 1)]
)
def test_the_exit_code_says_whether_data_is_the_limit(
    trainer: SequenceEnqueuer, monkeypatch: pytest.MonkeyPatch, cause: Cause, exit_code: int
) -> None:
    make = views.make_snapshot
    monkeypatch.setattr(views, "make_snapshot", lambda *args: make(*args)._replace(cause=cause.value))
    assert status().exit_code == exit_code


def test_json_has_every_figure(trainer: SequenceEnqueuer) -> None:
    result = status("--json")
    [seen] = json.loads(result.stdout)
    assert seen["address"].startswith("unix://") and seen["pid"] == os.getpid()
    assert (seen["slots_count"], seen["length"], seen["desired_slots"]) == (2, 6, None)
    [worker] = seen["workers"]
    assert worker["worker_id"] == "threads" and worker["batches_count"] >= 1
    assert [event["what"] for event in seen["events"]] == ["joined"]


def test_a_trainer_with_keys_is_seen_with_an_observers_token_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeyDirectory(tmp_path)
    keys.create()
    keys.add_observer("grafana")
    with SequenceEnqueuer(Bare(length=6), bind="tcp://127.0.0.1:*", key_file=str(keys.key_file)) as enqueuer:
        enqueuer.start(workers=1)
        assert enqueuer.endpoint is not None
        token = str(keys.token_file("grafana"))
        assert status(enqueuer.endpoint, "--token-file", token).exit_code == 0
        monkeypatch.setenv("ENQUEUER_TOKEN_FILE", token)
        assert status(enqueuer.endpoint).exit_code == 0
        result = status(enqueuer.endpoint, "--token-file", str(keys.token_file("worker")))
        assert result.exit_code == 2 and "an observer needs one of its own" in result.output
        monkeypatch.delenv("ENQUEUER_TOKEN_FILE")
        result = status(enqueuer.endpoint, "--timeout", "30")
        assert result.exit_code == 2 and "it wants an observer's token" in result.output


def test_a_directory_that_others_may_enter_is_an_error(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o777)
    result = status()
    assert result.exit_code == 1 and "chmod 700" in result.output
