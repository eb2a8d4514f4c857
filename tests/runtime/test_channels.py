"""The directory of a session's ipc sockets."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path

import pytest

from enqueuer.runtime.channels import PrivateDirectory


def test_only_its_owner_may_enter() -> None:
    directory = PrivateDirectory()
    try:
        assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    finally:
        directory.remove()


def test_no_two_have_the_same_path() -> None:
    first, second = PrivateDirectory(), PrivateDirectory()
    assert first.path != second.path
    first.remove()
    second.remove()


def test_an_endpoint_is_a_socket_inside_it() -> None:
    directory = PrivateDirectory()
    assert directory.endpoint("control") == f"ipc://{directory.path}/control"
    directory.remove()


def test_removing_takes_all_that_is_in_it_and_may_be_repeated() -> None:
    directory = PrivateDirectory()
    (directory.path / "control").touch()
    directory.remove()
    assert not directory.path.exists()
    directory.remove()


def test_it_is_elsewhere_where_the_temporary_directory_is_too_deep_for_a_socket(
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
