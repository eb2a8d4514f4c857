"""Open files: raised as far as they go, and connections that give way before there are none left."""

from __future__ import annotations

import errno
import json
import socket
from pathlib import Path

import pytest

from enqueuer.transport import limits
from tests.support.scripts import run_script


def run(source: str, directory: Path) -> object:
    return json.loads(
        run_script(f"import json, resource\nfrom enqueuer.transport.limits import *\n{source}", directory)
    )


def test_the_limit_is_raised_as_far_as_it_may_be(tmp_path: Path) -> None:
    source = """
resource.setrlimit(resource.RLIMIT_NOFILE, (150, 300))
print(json.dumps([raise_file_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""
    assert run(source, tmp_path) == [300, [300, 300]]


def test_a_limit_that_is_too_low_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    source = """
resource.setrlimit(resource.RLIMIT_NOFILE, (50, 60))
try:
    raise_file_limit()
except OSError as error:
    print(json.dumps(str(error)))
"""
    text = run(source, tmp_path)
    assert "may open 60 files" in str(text) and "ulimit -n" in str(text)


def test_the_newest_connections_give_way_and_nothing_else(tmp_path: Path) -> None:
    source = """
import os, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
listener, other = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
limit = ConnectionLimit({port})
pairs = []
def connect(server):
    client = socket.create_connection(server.getsockname())
    pairs.append((client, server.accept()[0]))
connect(other)
for _ in range(10):
    connect(listener)
assert limit.enforce() == 0
connect(other)
while len(os.listdir("/proc/self/fd")) < 80:
    connect(listener)
before = len(os.listdir("/proc/self/fd"))
closed = limit.enforce()
hung_up = []
for client, _ in pairs:
    client.setblocking(False)
    try:
        hung_up.append(client.recv(1) == b"")
    except BlockingIOError:
        hung_up.append(False)
print(json.dumps([before - 75, closed, hung_up]))
"""
    excess, closed, hung_up = run(source, tmp_path)  # type: ignore[misc]
    assert excess == closed > 0
    assert hung_up == [False] * (len(hung_up) - closed) + [True] * closed


def test_connections_give_way_also_when_there_is_not_one_descriptor_left(tmp_path: Path) -> None:
    source = """
import os, socket
listener = socket.create_server(("127.0.0.1", 0), backlog=100)
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
clients = []
try:
    while True:
        clients.append((socket.create_connection(listener.getsockname()), listener.accept()[0]))
except OSError as error:
    print(json.dumps([error.errno, ConnectionLimit({listener.getsockname()[1]}).enforce()]))
"""
    code, closed = run(source, tmp_path)  # type: ignore[misc]
    assert (code, closed) == (errno.EMFILE, 15)


def test_without_proc_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_OPEN_FILES", Path("/nonexistent"))
    assert limits.ConnectionLimit({1}).enforce() == 0


def test_a_number_that_is_another_files_by_now_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, Path("/dev/null").open("rb") as file:
        port = listener.getsockname()[1]
        assert not limits._hang_up(listener.fileno(), {port})
        assert not limits._hang_up(file.fileno(), {port})
