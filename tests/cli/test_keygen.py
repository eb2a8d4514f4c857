"""The command `enqueuer keygen`: its files, its output and its refusals."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from enqueuer.cli.main import main
from enqueuer.security.keys import read_coordinator_key, read_token


def keygen(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["keygen", *map(str, arguments)])


def assert_refused(result: Result, words: str) -> None:
    assert result.exit_code == 2
    assert words in result.output and result.output.startswith("Error: ") and result.output.count("\n") == 1


def test_keygen_makes_both_files_and_says_where_each_belongs(tmp_path: Path) -> None:
    result = keygen(tmp_path)
    assert result.exit_code == 0
    assert f"for the trainer:  {tmp_path}/coordinator.key" in result.output
    assert f"for the workers:  {tmp_path}/worker.token" in result.output
    key, token = read_coordinator_key(tmp_path / "coordinator.key"), read_token(tmp_path / "worker.token")
    assert token.server_key == key.public_key
    for secret in (key.secret_key, token.secret_key):
        assert secret.hex() not in result.output
    assert token.to_text() not in result.output


def test_keygen_overwrites_only_with_replace_and_then_says_so(tmp_path: Path) -> None:
    keygen(tmp_path)
    assert_refused(keygen(tmp_path), "is there already")
    replaced = keygen(tmp_path, "--replace")
    assert replaced.exit_code == 0 and "every token that was made before is worthless" in replaced.output


def test_tokens_are_added_listed_and_revoked(tmp_path: Path) -> None:
    keygen(tmp_path)
    assert f"{tmp_path}/worker-2.token" in keygen(tmp_path, "--add-worker").output
    assert f"{tmp_path}/box.token" in keygen(tmp_path, "--add-worker", "box").output
    assert [line.split()[0] for line in keygen(tmp_path, "--list").output.splitlines()] == ["worker", "worker-2", "box"]
    assert keygen(tmp_path, "--revoke-worker", "worker").exit_code == 0
    names = [line.split()[0] for line in keygen(tmp_path, "--list").output.splitlines()]
    assert names == ["worker-2", "box"]
    assert_refused(keygen(tmp_path, "--revoke-worker", "worker"), "no worker 'worker'")


def test_the_list_has_the_prefixes_that_the_trainers_log_names(tmp_path: Path) -> None:
    keygen(tmp_path)
    public = read_token(tmp_path / "worker.token").public_key
    assert keygen(tmp_path, "--list").output == f"worker  {public.hex()[:8]}\n"


def test_an_observers_token_is_made_listed_and_revoked(tmp_path: Path) -> None:
    keygen(tmp_path)
    assert f"{tmp_path}/observer.token" in keygen(tmp_path, "--add-observer").output
    assert f"{tmp_path}/grafana.token" in keygen(tmp_path, "--add-observer", "grafana").output
    lines = [line.split() for line in keygen(tmp_path, "--list").output.splitlines()]
    assert [line[0] for line in lines if line[-1] == "observes"] == ["observer", "grafana"]
    assert keygen(tmp_path, "--revoke-observer", "grafana").exit_code == 0
    assert_refused(keygen(tmp_path, "--revoke-observer", "worker"), "no observer 'worker'")


def test_two_actions_at_once_are_refused(tmp_path: Path) -> None:
    assert_refused(keygen(tmp_path, "--list", "--replace"), "one thing at a time")


def test_a_missing_directory_and_a_file_in_its_place_are_refused_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.touch()
    for arguments in ((), ("--add-worker",)):
        assert_refused(keygen(file, *arguments), f"{file} is a file: give a directory for the keys")
    absent = tmp_path / "absent"
    assert_refused(
        keygen(absent, "--add-worker"),
        f"there is no directory {absent}: `enqueuer keygen {absent}` makes it, with keys",
    )
    assert_refused(keygen(tmp_path, "--list"), "`enqueuer keygen DIR` makes DIR/coordinator.key")
