"""The command `enqueuer doctor`: its findings, its exit codes, and the verdict of a running trainer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from enqueuer import SequenceEnqueuer
from enqueuer.cli.main import main
from enqueuer.monitoring import surroundings
from enqueuer.monitoring.surroundings import Finding
from enqueuer.security.key_directory import KeyDirectory
from tests.support.observed import own_directory
from tests.support.sequences import Bare
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def sound_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without fault; `tests/monitoring/test_surroundings.py` has its checks."""
    monkeypatch.setattr(surroundings, "check_machine", lambda: iter([Finding("machine", "sound")]))
    for name in ("ENQUEUER_TOKEN", "ENQUEUER_TOKEN_FILE", "ENQUEUER_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    with own_directory(monkeypatch):
        yield


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", "--timeout", "30", *arguments])


def test_a_sound_machine_is_ok() -> None:
    result = doctor()
    assert result.exit_code == 0 and result.output == "ok    machine        sound\n"


def test_a_fault_is_shown_with_its_cure_and_the_exit_code_says_so(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path)
    keys.create()
    keys.key_file.chmod(0o644)
    result = doctor("--key-file", str(keys.key_file), "--worker-token", str(keys.token_file("worker")))
    assert result.exit_code == 1
    assert "mend  key file" in result.output and "→" in result.output and "chmod 600" in result.output
    assert "ok    token" in result.output
    result = doctor("--worker-token", str(_private(keys.key_file)))
    assert "worker needs the worker.token" in one_line(result.output)


def _private(path: Path) -> Path:
    path.chmod(0o600)
    return path


def test_a_port_is_checked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert "mend  port" in doctor("--bind", address).output
    assert doctor("--bind", address).exit_code == 0
    assert "cannot be bound: Cannot assign requested address\n" in one_line(
        doctor("--bind", "tcp://192.0.2.1:1").output
    )


def test_an_address_for_other_machines_needs_keys_as_it_does_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("", 0)) as server:
        address = f"tcp://0.0.0.0:{server.getsockname()[1]}"
    result = doctor("--bind", address)
    assert result.exit_code == 1 and "mend  keys" in result.output and "enqueuer keygen DIR" in result.output
    keys = KeyDirectory(tmp_path)
    keys.create()
    assert doctor("--bind", address, "--key-file", str(keys.key_file)).exit_code == 0
    monkeypatch.setenv("ENQUEUER_KEY_FILE", str(keys.key_file))
    result = doctor("--bind", address)
    assert result.exit_code == 0 and "ok    key file" in result.output


def test_whether_a_worker_can_join_is_tried_with_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyDirectory(tmp_path)
    keys.create()
    token = ("--worker-token", str(keys.token_file("worker")))
    with SequenceEnqueuer(Bare(length=6), bind="tcp://127.0.0.1:*", key_file=keys.key_file) as enqueuer:
        enqueuer.start(workers=1)
        address = enqueuer.endpoint
        assert address is not None
        result = doctor("--connect", address, *token)
        assert result.exit_code == 0, result.output
        assert "ok    name" in result.output and "lets a worker in with this token" in one_line(result.output)
        assert "ok    path" in result.output
        with monkeypatch.context() as environment:
            environment.setenv("ENQUEUER_TOKEN_FILE", token[1])
            assert "lets a worker in with this token" in one_line(doctor("--connect", address).output)
            environment.setenv("ENQUEUER_TOKEN_FILE", "none.token")
            result = doctor("--connect", address)
            assert result.exit_code == 1 and "that of the environment cannot be used" in one_line(result.output)
        result = doctor("--connect", address)
        assert result.exit_code == 1 and "lets in only workers with a key" in one_line(result.output)
    result = doctor("--connect", address, *token)
    assert result.exit_code == 1 and "mend  joining" in result.output and "path" not in result.output
    keys.token_file("worker").chmod(0o644)
    assert "joining" not in doctor("--connect", address, *token).output, "the token is the first to mend"


def test_more_threads_than_processors_are_told() -> None:
    result = doctor("--workers", "512", "--worker-threads", "64")
    assert result.exit_code == 1 and "512 workers of 64 BLAS threads" in one_line(result.output)
    assert doctor("--workers", "512").exit_code == 0, "many waiting workers may be right"


def one_line(output: str) -> str:
    return output.replace("\n" + " " * 21, " ")


@pytest.mark.parametrize("option", ["--connect", "--bind"])
def test_an_impossible_address_is_an_error_of_the_caller(option: str) -> None:
    result = doctor(option, "trainer")
    assert result.exit_code == 2 and f"{option} 'trainer' is no address" in result.output
    assert doctor("--connect", "tcp://*:5555").exit_code == doctor(option, "tcp://::1:5555").exit_code == 2


def test_an_observers_token_without_an_address_is_an_error_of_the_caller() -> None:
    result = doctor("--connect", "tcp://127.0.0.1:1", "--token-file", "worker.token")
    assert result.exit_code == 2 and "a worker's token is --worker-token" in result.output


def test_a_running_trainer_is_asked_for_its_verdict() -> None:
    with SequenceEnqueuer(Bare(length=6), bind="tcp://127.0.0.1:*") as enqueuer:
        enqueuer.start(workers=1)
        assert enqueuer.endpoint is not None
        # The first figures come a second after the start.
        wait_until(lambda: "window" in doctor(enqueuer.endpoint or "").output, 60, "the figures")
        result = doctor(enqueuer.endpoint)
    assert result.exit_code == 0 and "ok    verdict        too early to tell" in result.output
    assert all(f"ok    {name} " in result.output for name in ("window", "training", "slots", "waiting", "coordinator"))
    result = doctor("tcp://127.0.0.1:1", "--timeout", "0.5")
    assert result.exit_code == 1 and "nothing answers at this address" in one_line(result.output)
