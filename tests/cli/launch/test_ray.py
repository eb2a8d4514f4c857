"""`enqueuer launch ray` without a Ray cluster: what is found before one is asked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from enqueuer.cli.main import main

LOCAL = ("--connect", "tcp://127.0.0.1:5555")
ELSEWHERE = ("--connect", "tcp://trainer:5555")
ALLOWED = ("--allow", "mydata")


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("ENQUEUER_TOKEN", "ENQUEUER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


def launch(*options: str, worker: tuple[str, ...] = ALLOWED) -> Result:
    return CliRunner().invoke(main, ["launch", "ray", *options, "--", *worker])


@pytest.mark.parametrize(
    ("options", "worker", "message"),
    [
        ((), ALLOWED, "Missing option '--connect'"),
        (("--connect", "trainer"), ALLOWED, "--connect must be the trainer's address"),
        (("--connect", "tcp://trainer:*"), ALLOWED, "--connect must be the trainer's address"),
        (ELSEWHERE, ALLOWED, "tcp://trainer:5555 is another machine for the nodes: give --token-file FILE"),
        ((*ELSEWHERE, "--token-file", "/nonexistent/worker.token"), ALLOWED, "cannot read /nonexistent/worker.token"),
        ((*LOCAL, "--workers", "0"), ALLOWED, "'--workers'"),
        ((*LOCAL, "--cpus-per-worker", "0"), ALLOWED, "'--cpus-per-worker'"),
        ((*LOCAL, "--working-dir", "/nonexistent/project"), ALLOWED, "'/nonexistent/project' does not exist"),
        ((*LOCAL, "--working-dir", ""), ALLOWED, "'--working-dir'"),
        (LOCAL, (), "-- --allow PACKAGE"),
        (LOCAL, (*ALLOWED, "--alow", "x"), "No such option '--alow'"),
        (LOCAL, (*ALLOWED, "--processes", "2"), "--processes stands behind `--`"),
        (LOCAL, (*ALLOWED, "--once"), "--once stands behind `--`"),
        (LOCAL, (*ALLOWED, "--lifetime", "1 week"), "--lifetime must be a time like 90s, 55m, 2h"),
        (LOCAL, ALLOWED, "pip install 'enqueuer[ray]'"),
    ],
)
def test_a_mistake_is_told_before_anything_is_started(
    options: tuple[str, ...], worker: tuple[str, ...], message: str
) -> None:
    result = launch(*options, worker=worker)
    assert result.exit_code == 2 and message in result.output, result.output


def test_a_dry_run_prints_what_each_actor_would_run_without_the_token(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["keygen", str(tmp_path / "keys")]).exit_code == 0
    file = tmp_path / "keys" / "worker.token"
    options = ("--workers", "8", "--cpus-per-worker", "2", "--token-file", str(file), "--dry-run")
    shown = launch(*ELSEWHERE, *options, worker=("--allow", "mydata", "--lifetime", "55m"))
    assert shown.exit_code == 0, shown.output
    assert "actors:         8," in shown.output and "token:          given;" in shown.output
    command = "enqueuer worker --connect tcp://trainer:5555 --allow mydata --lifetime 55m --worker-threads 2\n"
    assert shown.output.endswith(f"each runs:      {command}")
    assert file.read_text().strip() not in shown.output
    assert "token:          none\n" in launch(*LOCAL, "--dry-run").output


def test_the_file_of_a_token_must_be_private(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["keygen", str(tmp_path / "keys")]).exit_code == 0
    file = tmp_path / "keys" / "worker.token"
    file.chmod(0o644)
    refused = launch(*ELSEWHERE, "--token-file", str(file))
    assert refused.exit_code == 2 and "chmod" in refused.output, refused.output
    assert file.read_text().strip() not in refused.output
