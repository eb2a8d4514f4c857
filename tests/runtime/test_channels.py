"""Where workers connect: the directory of the ipc sockets, and the keys of the tcp ones."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest

from enqueuer import ConfigurationError
from enqueuer.options import Options
from enqueuer.runtime.channels import PrivateDirectory, settle_keys
from enqueuer.security.key_directory import KeyDirectory


def test_only_its_owner_may_enter_a_private_directory() -> None:
    directory = PrivateDirectory()
    try:
        assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    finally:
        directory.remove()


def test_no_two_private_directories_have_the_same_path() -> None:
    first, second = PrivateDirectory(), PrivateDirectory()
    assert first.path != second.path
    first.remove()
    second.remove()


def test_removing_a_private_directory_removes_its_content_and_may_be_repeated() -> None:
    directory = PrivateDirectory()
    (directory.path / "control").touch()
    directory.remove()
    assert not directory.path.exists()
    directory.remove()


def test_the_directory_is_elsewhere_if_the_temporary_directory_is_too_deep_for_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    directory = PrivateDirectory()
    try:
        assert directory.path.parent == Path("/tmp")
        assert list(deep.iterdir()) == []
    finally:
        directory.remove()


# ---------------------------------------------------------------- keys


def settle(**options: Any) -> Options:
    """Options of any type, as a caller without a type checker gives them."""
    return settle_keys(Options(**options))


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ENQUEUER_KEY_FILE", raising=False)
    KeyDirectory(tmp_path).create()
    return tmp_path / "coordinator.key"


def test_with_a_key_any_address_may_be_bound(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settle(bind="tcp://*:5555", key_file=keys).key_file == str(keys)
    monkeypatch.setenv("ENQUEUER_KEY_FILE", str(keys))
    assert settle(bind="tcp://*:5555").key_file == str(keys)
    # An existing key is always used; without ``bind`` the environment's key does not count.
    assert settle(bind="tcp://127.0.0.1:*", insecure=True).key_file == str(keys)
    assert settle().key_file is None


def test_a_key_file_that_is_not_right_is_an_error_at_once(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        settle(bind="tcp://*:5555", key_file=keys.with_name("nothing"))
    with pytest.raises(ConfigurationError, match="worker's token"):
        settle(bind="tcp://*:5555", key_file=keys.with_name("worker.token"))
    keys.chmod(0o644)
    monkeypatch.setenv("ENQUEUER_KEY_FILE", str(keys))
    with pytest.raises(ConfigurationError, match=f"chmod 600 {keys}"):
        settle(bind="tcp://127.0.0.1:*")


@pytest.mark.parametrize("address", ["tcp://*:5555", "tcp://0.0.0.0:5555", "tcp://10.0.0.1:*", "tcp://[::]:5555"])
def test_binding_beyond_loopback_needs_a_key_or_insecure(address: str) -> None:
    choices: list[dict[str, Any]] = [{"bind": address}, {"bind": "tcp://127.0.0.1:*", "data_bind": address}]
    for options in choices:
        with pytest.raises(ConfigurationError, match=r"enqueuer keygen DIR.*insecure=True"):
            settle(**options)
        settle(**options, insecure=True)


def test_allow_pickle_needs_a_key(keys: Path) -> None:
    for options in ({}, {"bind": "tcp://127.0.0.1:*"}, {"bind": "tcp://127.0.0.1:*", "insecure": True}):
        with pytest.raises(ConfigurationError, match="allow_pickle=True lets remote workers run code"):
            settle(allow_pickle=True, **options)
    assert settle(allow_pickle=True, bind="tcp://127.0.0.1:*", key_file=keys).allow_pickle
