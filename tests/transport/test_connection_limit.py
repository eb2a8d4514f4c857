"""Connections are closed before the process runs out of file descriptors: the quietest first."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from pathlib import Path

import pytest

from enqueuer.transport import connection_limit as limits
from tests.support.scripts import run_script


def run(source: str, directory: Path) -> object:
    return json.loads(
        run_script(f"import json, resource\nfrom enqueuer.transport.connection_limit import *\n{source}", directory)
    )


def test_the_connections_that_sent_least_are_closed_and_no_others(tmp_path: Path) -> None:
    source = """
import os, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
listener, other = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
limit = ConnectionLimit({listener.getsockname()[1]})
pairs = []
def connect(server, said):
    client = socket.create_connection(server.getsockname())
    pairs.append((client, server.accept()[0]))
    client.sendall(said)
    pairs[-1][1].recv(len(said), socket.MSG_PEEK | socket.MSG_WAITALL)
connect(other, b"-")
for _ in range(8):
    connect(listener, b"---")
assert limit.enforce() == 0
while len(os.listdir("/proc/self/fd")) < 76:
    connect(listener, b"-")
connect(other, b"-")
for _ in range(4):
    connect(listener, b"--")
before = len(os.listdir("/proc/self/fd"))
said = [len(server.recv(8)) for _, server in pairs]
closed = limit.enforce()
hung_up = []
for client, server in pairs:
    client.setblocking(False)
    try:
        hung_up.append(client.recv(1) == b"")
    except BlockingIOError:
        hung_up.append(False)
ours = [server.getsockname()[1] == listener.getsockname()[1] for _, server in pairs]
print(json.dumps([before - 75, closed, list(zip(ours, said, hung_up))]))
"""
    excess, closed, connections = run(source, tmp_path)  # type: ignore[misc]
    assert excess == closed > 0
    assert sum(hung_up for _, _, hung_up in connections) == closed
    assert {(ours, said) for ours, said, hung_up in connections if hung_up} == {(True, 1)}


def test_connections_are_closed_even_when_no_descriptor_is_left(tmp_path: Path) -> None:
    source = """
import os, socket
listener = socket.create_server(("127.0.0.1", 0), backlog=100)
limit = ConnectionLimit({listener.getsockname()[1]})
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
clients = []
try:
    while True:
        clients.append((socket.create_connection(listener.getsockname()), listener.accept()[0]))
except OSError as error:
    print(json.dumps([error.errno, limit.enforce()]))
"""
    code, closed = run(source, tmp_path)  # type: ignore[misc]
    assert (code, closed) == (errno.EMFILE, 15)


def test_without_proc_no_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_OPEN_FILES", Path("/nonexistent"))
    with contextlib.closing(limits.ConnectionLimit({1})) as limit:
        assert limit.enforce() == 0


def test_a_descriptor_that_is_no_connection_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, Path("/dev/null").open("rb") as file:
        with contextlib.closing(limits.ConnectionLimit({listener.getsockname()[1]})) as limit:
            assert not limit._hang_up(listener.fileno())
            assert not limit._hang_up(file.fileno())
        assert file.read() == b""


def test_a_descriptor_that_libzmq_reuses_during_the_check_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with contextlib.ExitStack() as stack:
        listener, elsewhere = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2))
        client, bystander_client = (
            stack.enter_context(socket.create_connection(server.getsockname())) for server in (listener, elsewhere)
        )
        accepted, bystander = (stack.enter_context(server.accept()[0]) for server in (listener, elsewhere))
        limit = stack.enter_context(contextlib.closing(limits.ConnectionLimit({listener.getsockname()[1]})))
        is_to = limits._is_to

        def look_then_reuse(descriptor: int, ports: set[int]) -> bool:
            answer = is_to(descriptor, ports)
            os.dup2(bystander.fileno(), accepted.fileno())
            return answer

        monkeypatch.setattr(limits, "_is_to", look_then_reuse)
        assert limit._hang_up(accepted.fileno())
        assert client.recv(1) == b""
        bystander_client.sendall(b"well")
        assert bystander.recv(4) == b"well"
        accepted.close()
        assert not limit._hang_up(accepted.fileno())


def test_closed_connections_are_reported_at_once_and_then_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits.ConnectionLimit, "enforce", lambda _: 1)
    with contextlib.closing(limits.ConnectionLimit({1})) as limit:
        for second in range(25):
            limit.look(1000.0 + second)
    assert [record.args for record in caplog.records] == [(1,), (10,), (10,)]


def test_a_look_that_is_not_due_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []
    monkeypatch.setattr(limits.ConnectionLimit, "enforce", lambda self: looks.append(self) or 0)
    with contextlib.closing(limits.ConnectionLimit({1})) as limit:
        for _ in range(100):
            limit.look(1000.0)
    assert len(looks) == 1
