"""`enqueuer launch slurm` without a Slurm: the script, and what is found before anything is submitted."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from enqueuer.cli.main import main

WORKER = ("--connect", "tcp://trainer:5555", "--allow", "mydata")


@pytest.fixture(autouse=True)
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ENQUEUER_TOKEN", raising=False)


def launch(*options: str, worker: tuple[str, ...] = WORKER, **variables: str) -> Result:
    return CliRunner().invoke(main, ["launch", "slurm", *options, "--", *worker], env=variables)


def test_a_dry_run_prints_the_script_alone() -> None:
    result = launch("--dry-run", "--nodes", "2", "--python", "python3", worker=(*WORKER, "--insecure"))
    assert result.exit_code == 0
    assert result.stdout.startswith("#!/bin/bash\n") and "#SBATCH --array=0-1%2\n" in result.stdout
    assert "python3 -m enqueuer worker" in result.stdout


def test_the_walltimes_lifetime_takes_a_stagger_of_the_users_own() -> None:
    given = (*WORKER, "--insecure", "--lifetime-stagger", "5m")
    assert "--lifetime-stagger 5m" in launch("--dry-run", "--time", "60", worker=given).stdout


def test_the_token_is_taken_from_a_file_and_appears_nowhere(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["keygen", str(tmp_path / "keys")]).exit_code == 0
    file = tmp_path / "keys" / "worker.token"
    secured = (*WORKER, "--token-file", str(file))
    result = launch("--dry-run", worker=secured)
    assert result.exit_code == 0 and str(file) in result.stdout
    assert file.read_text().strip() not in result.stdout
    file.chmod(0o644)
    refused = launch(worker=secured)
    assert refused.exit_code == 2 and "chmod" in refused.output, refused.output
    result = launch(worker=WORKER, ENQUEUER_TOKEN="text")
    assert result.exit_code == 2 and "ENQUEUER_TOKEN would be stored by Slurm" in result.output
    assert "text" not in result.output.split()


@pytest.mark.parametrize(
    ("options", "worker", "message"),
    [
        ((), WORKER, "tcp://trainer:5555 is another machine for the nodes: give `-- --token-file FILE`"),
        ((), (), "-- --allow PACKAGE"),
        ((), ("--allow", "mydata"), "Missing option '--connect'"),
        ((), (*WORKER, "--alow", "x"), "No such option '--alow'"),
        ((), (*WORKER, "--insecure", "--max-memory", "lots"), "--max-memory must be a size like 4G"),
        ((), (*WORKER, "--insecure", "--lifetime-stagger", "5m"), "give --lifetime … as well"),
        (("--nodes", "4", "--array", "2"), WORKER, "--array 2 is too small for --nodes 4"),
        (("--time", "3"), WORKER, "--time 3 is too short"),
        (("--time", "soon"), WORKER, "--time must be as Slurm writes it"),
        (("--processes", "many"), WORKER, "--processes must be 'auto' or a number"),
        (("--directive", "mem=8G"), WORKER, "--directive must be one option of sbatch"),
    ],
)
def test_a_mistake_is_told_before_anything_is_submitted(
    options: tuple[str, ...], worker: tuple[str, ...], message: str
) -> None:
    result = launch(*options, worker=worker)
    assert result.exit_code == 2 and message in result.output, result.output


def test_where_slurm_is_missing_the_command_says_so() -> None:
    result = launch(worker=(*WORKER, "--insecure"))
    assert result.exit_code == 1 and "there is no sbatch here" in result.output
