from __future__ import annotations

import threading
from pathlib import Path

import pytest

from enqueuer.monitoring.health import HealthSocket, ask_all, open_health_socket
from tests.support.waiting import wait_until


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    return path


def answered(socket: HealthSocket, directory: Path) -> list:
    """The answers to one caller, from a loop that serves its socket."""
    heard: list = []
    asker = threading.Thread(target=lambda: heard.extend(ask_all(directory, 10.0)))
    asker.start()
    wait_until(lambda: socket.answer(lambda: {"role": "trainer", "workers": 3}) or not asker.is_alive())
    asker.join()
    return heard


def test_a_caller_gets_the_status_and_the_pid(directory):
    socket = HealthSocket(directory)
    (status,) = answered(socket, directory)
    assert status["workers"] == 3
    assert status["pid"] > 0
    socket.close()


def test_a_hanging_loop_does_not_answer(directory):
    socket = HealthSocket(directory)
    assert ask_all(directory, 0.05) == [None]
    socket.close()


def test_a_socket_with_a_full_backlog_does_not_answer(directory):
    socket = HealthSocket(directory)
    for _ in range(300):  # each waits in the backlog, until that is full
        if ask_all(directory, 0.001) != [None]:
            pytest.fail("a loop that does not turn answered")
    socket.close()


def test_a_caller_that_has_gone_does_not_stop_the_loop(directory):
    socket = HealthSocket(directory)
    assert ask_all(directory, 0.01) == [None]
    socket.answer(lambda: {"role": "trainer"})
    assert len(answered(socket, directory)) == 1
    socket.close()


def test_the_socket_of_a_killed_process_is_removed_and_not_counted(directory):
    socket = HealthSocket(directory)
    socket._listener.close()
    assert len(list(directory.iterdir())) == 1
    assert ask_all(directory, 1.0) == []
    assert list(directory.iterdir()) == []


def test_closing_removes_the_file(directory):
    HealthSocket(directory).close()
    assert list(directory.iterdir()) == []


def test_a_directory_that_others_may_enter_is_refused_by_both_sides(directory):
    directory.chmod(0o755)
    with pytest.raises(PermissionError, match="chmod 700"):
        HealthSocket(directory)
    with pytest.raises(PermissionError, match="chmod 700"):
        ask_all(directory, 1.0)


@pytest.mark.parametrize("directory", [None, ""])
def test_without_a_directory_there_is_no_socket(directory):
    assert open_health_socket(directory) is None


def test_a_directory_that_cannot_be_used_is_a_warning(directory, caplog):
    directory.chmod(0o755)
    assert open_health_socket(str(directory)) is None
    assert "chmod 700" in caplog.text
