"""Checks of the surroundings: what is fine, and what mends the rest."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from enqueuer.monitoring import surroundings
from enqueuer.monitoring.surroundings import (
    check_clock,
    check_files,
    check_key_file,
    check_memory,
    check_threads,
    is_clock_set,
)
from enqueuer.security.key_directory import KeyDirectory
from enqueuer.security.keys import read_coordinator_key
from tests.support.observed import own_directory

GIB = 1024**3


def test_each_check_of_a_machine_has_a_name_of_its_own_and_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    with own_directory(monkeypatch):
        findings = list(surroundings.check_machine())
    assert len({finding.name for finding in findings}) == len(findings) == 7
    assert all(finding.text for finding in findings)


def test_little_memory_is_told() -> None:
    assert check_memory(8 * GIB, 16 * GIB).cure == ""
    assert "max_bytes" in check_memory(GIB, 16 * GIB).cure
    assert check_memory(None, 16 * GIB).cure == "", "a system that does not tell"


def test_few_open_files_are_told_with_the_command_that_allows_more() -> None:
    assert check_files(1_024, 65_536).cure == "" == check_files(1_024, resource.RLIM_INFINITY).cure
    assert "ulimit -n" in check_files(256, 1_024).cure


def test_a_missing_or_small_directory_for_shared_memory_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "_SMALL_SHARED_MEMORY", 0)
    assert surroundings.check_shared_memory(tmp_path).cure == ""
    monkeypatch.setattr(surroundings, "_SMALL_SHARED_MEMORY", 2**62)
    assert "--shm-size" in surroundings.check_shared_memory(tmp_path).cure
    assert "not writable" in surroundings.check_shared_memory(tmp_path / "nothing").text


def test_a_key_file_that_others_can_read_is_told_with_its_cure(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path)
    keys.create()
    assert check_key_file("key file", keys.key_file, read_coordinator_key).cure == ""
    keys.key_file.chmod(0o644)
    assert f"chmod 600 {keys.key_file}" in check_key_file("key file", keys.key_file, read_coordinator_key).cure


def test_a_directory_of_sockets_that_others_may_enter_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with own_directory(monkeypatch) as directory:
        assert surroundings.check_directory().cure == ""
        directory.mkdir()
        directory.chmod(0o755)
        assert surroundings.check_directory().cure == f"chmod 700 {directory}"
        directory.chmod(0o700)
        assert surroundings.check_directory().cure == ""


def test_threads_beyond_the_processors_are_told_with_the_number_that_fits() -> None:
    assert check_threads(16, 1, 4).cure == "", "workers that wait may be many"
    assert check_threads(2, 2, 4).cure == ""
    assert "worker_threads=2" in check_threads(4, 8, 8).cure
    assert "worker_threads=1" in check_threads(16, 8, 8).cure


def test_a_clock_that_is_wrong_is_told_and_one_that_nothing_sets_is_no_fault() -> None:
    assert "1970" in check_clock(1970, True).text and check_clock(1970, True).cure
    assert [check_clock(2026, is_set).cure for is_set in (True, False, None)] == ["", "", ""]
    assert "timedatectl" in check_clock(2026, False).text
    assert is_clock_set() in (True, False, None)
