"""The key directory: made, extended, revoked from; whole at every moment, and never overwritten silently."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from enqueuer.errors import ConfigurationError
from enqueuer.security.key_directory import KeyDirectory
from enqueuer.security.keys import read_coordinator_key, read_observer_token, read_token


@pytest.fixture
def directory(tmp_path: Path) -> KeyDirectory:
    made = KeyDirectory(tmp_path / "new" / "keys")
    assert made.create() == "worker"
    return made


def test_the_first_token_fits_the_key_and_both_files_are_private(directory: KeyDirectory) -> None:
    key, token = read_coordinator_key(directory.key_file), read_token(directory.token_file("worker"))
    assert token.server_key == key.public_key
    assert key.workers == {"worker": token.public_key}
    modes = {stat.S_IMODE(path.stat().st_mode) for path in directory.path.iterdir()}
    assert modes == {0o600} and stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    assert len(list(directory.path.iterdir())) == 2


def test_existing_keys_are_not_overwritten(directory: KeyDirectory) -> None:
    before = {path: path.read_text() for path in directory.path.iterdir()}
    with pytest.raises(ConfigurationError, match=r"--add-worker.*--replace"):
        directory.create()
    assert {path: path.read_text() for path in directory.path.iterdir()} == before


def test_replacing_a_key_removes_its_tokens_and_no_others(directory: KeyDirectory) -> None:
    directory.add_worker("box")
    old = read_coordinator_key(directory.key_file)
    foreign = directory.path / "foreign.token"
    other = KeyDirectory(directory.path / "other")
    other.create()
    other.token_file("worker").rename(foreign)
    directory.create(replace=True)
    assert read_coordinator_key(directory.key_file).secret_key != old.secret_key
    assert list(directory.workers()) == ["worker"]
    assert not directory.token_file("box").exists() and foreign.exists()


def test_workers_are_added_and_revoked_by_name(directory: KeyDirectory) -> None:
    assert directory.add_worker() == "worker-2"
    assert directory.add_worker("gpu-box") == "gpu-box"
    assert list(directory.workers()) == ["worker", "worker-2", "gpu-box"]
    with pytest.raises(ConfigurationError, match="already"):
        directory.add_worker("gpu-box")
    directory.revoke_worker("worker")
    assert list(directory.workers()) == ["worker-2", "gpu-box"]
    assert not directory.token_file("worker").exists()
    with pytest.raises(ConfigurationError, match="it admits: worker-2, gpu-box"):
        directory.revoke_worker("worker")
    assert directory.add_worker() == "worker"


def test_observers_have_tokens_of_their_own_beside_those_of_workers(directory: KeyDirectory) -> None:
    assert directory.add_observer() == "observer"
    assert directory.add_observer("grafana") == "grafana"
    assert list(directory.workers()) == ["worker"] and list(directory.observers()) == ["observer", "grafana"]
    assert read_observer_token(directory.token_file("grafana")).public_key == directory.observers()["grafana"]
    for add in (directory.add_worker, directory.add_observer):
        with pytest.raises(ConfigurationError, match=r"observer 'grafana' already.*--revoke-observer"):
            add("grafana")
        with pytest.raises(ConfigurationError, match=r"worker 'worker' already.*--revoke-worker"):
            add("worker")
    with pytest.raises(ConfigurationError, match="no worker 'grafana'"):
        directory.revoke_worker("grafana")
    directory.revoke_observer("observer")
    assert list(directory.observers()) == ["grafana"] and not directory.token_file("observer").exists()
    with pytest.raises(ConfigurationError, match="it admits: grafana"):
        directory.revoke_observer("observer")
    directory.revoke_worker("worker")
    assert list(directory.observers()) == ["grafana"], "a change of one list keeps the other"
    directory.create(replace=True)
    assert directory.observers() == {} and not directory.token_file("grafana").exists()


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "x" * 65, "a b", "é", ".hidden"])
def test_a_workers_name_must_be_a_plain_file_name(directory: KeyDirectory, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a worker's name"):
        directory.add_worker(name)


def test_a_token_of_another_key_is_neither_overwritten_nor_removed(directory: KeyDirectory) -> None:
    foreign = directory.token_file("box")
    foreign.write_text("somebody else's")
    with pytest.raises(ConfigurationError, match="move it away"):
        directory.add_worker("box")
    assert foreign.read_text() == "somebody else's" and "box" not in directory.workers()


def test_an_error_names_the_file_and_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"no directory {tmp_path}/nothing: `enqueuer keygen"):
        KeyDirectory(tmp_path / "nothing").add_worker()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=f"{tmp_path}/file is a file: give a directory"):
        KeyDirectory(tmp_path / "file").create()


def test_concurrent_changes_are_all_kept_and_readers_see_whole_files(directory: KeyDirectory) -> None:
    threads = [threading.Thread(target=directory.add_worker) for _ in range(20)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert "worker" in read_coordinator_key(directory.key_file).workers
    assert len(directory.workers()) == 21
