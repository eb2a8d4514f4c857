"""A session put together and taken apart: its addresses, its failures to start, its end."""

from __future__ import annotations

import errno
import multiprocessing.spawn
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from enqueuer import ConfigurationError
from enqueuer.options import Options
from enqueuer.protocol.control_codec import decode_control, encode_control
from enqueuer.protocol.messages import NO_ID, PROTOCOL_VERSION, Hello, Role, Welcome
from enqueuer.runtime.bookmark import Bookmark
from enqueuer.runtime.iteration import StreamEnd
from enqueuer.runtime.local_processes import LocalProcesses
from enqueuer.runtime.own_sequence import OwnSequence
from enqueuer.runtime.session import Session
from enqueuer.runtime.trainer_sequence import TrainerSequence
from enqueuer.security.key_directory import KeyDirectory
from enqueuer.transport.sockets import new_context
from tests.support.leaks import resources
from tests.support.remote import free_address
from tests.support.sequences import Bare, Journaled, as_spec
from tests.support.waiting import wait_until

LOOPBACK = "tcp://127.0.0.1:*"
DEADLINE = 30.0

Start = Callable[..., Session]


@pytest.fixture
def start() -> Iterator[Start]:
    made: list[tuple[Session, LocalProcesses]] = []

    def session(
        sequence: Any, *, threads: int = 0, local_processes: int = 0, max_queue_size: int = 10, **options: Any
    ) -> Session:
        checked = Options(**options)
        processes = LocalProcesses(1, checked.timing.heartbeat_interval)
        running = Session(
            Bookmark(OwnSequence(TrainerSequence(lambda: sequence)), checked, seed=3, first_epoch=0),
            threads=threads,
            local_processes=local_processes,
            max_queue_size=max_queue_size,
            processes=processes,
        )
        made.append((running, processes))
        return running

    yield session
    for running, processes in made:
        running.stop(DEADLINE)
        processes.stop(DEADLINE)


@pytest.fixture
def nothing_is_left(start: Start, own_temporary_directory: None) -> Iterator[None]:
    """Check after the test that its sessions, which all failed to start, left nothing."""
    before = resources()
    yield
    wait_until(lambda: resources().beyond(before) == [], what="that nothing is left behind")


def welcome(session: Session) -> Welcome:
    """The Welcome that a supervisor gets."""
    hello = Hello(
        PROTOCOL_VERSION, Role.SUPERVISOR, "peer", os.urandom(16), os.urandom(16), 0, "there", 1, "", "0", b"", (), 0
    )
    context = new_context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    try:
        assert session.endpoint is not None
        dealer.connect(session.endpoint)
        dealer.send(encode_control(NO_ID, hello))
        assert dealer.poll(int(DEADLINE * 1000))
        _, message = decode_control(dealer.recv())
    finally:
        dealer.close()
        context.term()
    assert isinstance(message, Welcome)
    return message


# ---------------------------------------------------------------- addresses


def test_the_endpoint_has_the_port_that_was_found(start: Start) -> None:
    endpoint = start(as_spec(Bare()), bind=LOOPBACK).endpoint
    assert endpoint is not None
    host, _, port = endpoint.rpartition(":")
    assert host == "tcp://127.0.0.1" and int(port) > 0


def test_without_bind_there_is_no_endpoint(start: Start) -> None:
    assert start(Bare(), threads=1).endpoint is None


def test_workers_are_told_the_data_port_on_the_host_that_they_know(start: Start) -> None:
    session = start(as_spec(Bare()), bind=LOOPBACK)
    host, _, port = welcome(session).data_endpoint.rpartition(":")
    assert host == "tcp://*" and int(port) > 0
    with socket.create_connection(("127.0.0.1", int(port)), DEADLINE):
        pass


def test_the_data_port_is_bound_at_data_bind(start: Start) -> None:
    address = free_address()
    session = start(as_spec(Bare()), bind=LOOPBACK, data_bind=address)
    assert welcome(session).data_endpoint.rpartition(":")[2] == address.rpartition(":")[2]


def test_workers_are_told_the_advertised_address(start: Start) -> None:
    session = start(as_spec(Bare()), bind=LOOPBACK, advertise="tcp://gateway.example:4000")
    assert welcome(session).data_endpoint == "tcp://gateway.example:4000"


@pytest.mark.parametrize("port", ["*", "0"])
def test_an_advertised_host_alone_gets_the_real_port(start: Start, port: str) -> None:
    session = start(as_spec(Bare()), bind=LOOPBACK, advertise=f"tcp://gateway.example:{port}")
    host, _, real = welcome(session).data_endpoint.rpartition(":")
    assert host == "tcp://gateway.example" and int(real) > 0


# ---------------------------------------------------------------- starts that fail


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("local_processes", [0, 1])
@pytest.mark.parametrize("option", ["bind", "data_bind"])
def test_a_port_in_use_is_an_error_that_names_the_address(start: Start, option: str, local_processes: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        options: dict[str, Any] = {"bind": LOOPBACK, option: address}
        with pytest.raises(OSError, match=r"cannot bind .*another program has port .*take port 0") as caught:
            start(as_spec(Bare()), local_processes=local_processes, **options)
    assert address in str(caught.value)
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("option", ["bind", "data_bind"])
def test_a_port_in_use_leaves_no_gatekeeper_behind(start: Start, tmp_path: Path, option: str) -> None:
    keys = KeyDirectory(tmp_path)
    keys.create()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options = {"bind": LOOPBACK, option: f"tcp://127.0.0.1:{taken.getsockname()[1]}"}
        with pytest.raises(OSError, match="cannot bind"):
            start(as_spec(Bare()), key_file=keys.key_file, **options)


@pytest.mark.usefixtures("nothing_is_left")
def test_a_session_with_keys_takes_its_gatekeeper_with_it(start: Start, tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path)
    keys.create()
    for number in range(30):
        session = start(as_spec(Bare()), bind=LOOPBACK, key_file=keys.key_file)
        time.sleep(number * 0.0005)  # it may end at any moment of the thread's life
        assert any(thread.name == "enqueuer-keys" for thread in threading.enumerate())
        assert session.stop(DEADLINE)
        session.bookmark.own.source.close(DEADLINE)


@pytest.mark.usefixtures("nothing_is_left")
def test_a_key_file_that_has_gone_bad_since_is_an_error_of_start(start: Start, tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path)
    keys.create()
    options = Options(bind=LOOPBACK, key_file=keys.key_file)
    keys.key_file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Session(
            Bookmark(OwnSequence(TrainerSequence(lambda: as_spec(Bare()))), options, seed=3, first_epoch=0),
            threads=0,
            local_processes=0,
            max_queue_size=10,
            processes=LocalProcesses(1, 1.0),
        )


@pytest.mark.skipif(sys.platform != "linux", reason="names a network interface")
def test_a_session_without_keys_logs_a_warning(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """The library cannot tell that only this host reaches the interface, so the warning is due."""
    start(as_spec(Bare()), bind="tcp://lo:*", insecure=True)
    assert "tcp://lo:* has no keys (insecure=True): anyone who reaches it can feed this training job" in caplog.text


@pytest.mark.usefixtures("nothing_is_left")
def test_an_address_of_another_machine_is_an_error_that_names_it(start: Start) -> None:
    with pytest.raises(OSError, match=r"tcp://192\.0\.2\.1:5555"):
        start(as_spec(Bare()), bind="tcp://192.0.2.1:5555", insecure=True)


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("name", ["no_such_module_anywhere:init", "os:no_such_name"])
def test_a_worker_init_that_does_not_exist_is_an_error_of_start_with_threads(start: Start, name: str) -> None:
    with pytest.raises((ImportError, ConfigurationError)):
        start(Bare(), threads=2, worker_init=name)


@pytest.mark.usefixtures("nothing_is_left")
def test_a_supervisor_that_cannot_be_started_is_an_error_of_start(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/nonexistent/python")
    with pytest.raises(ConfigurationError, match="'/nonexistent/python', is no program that can be run"):
        start(Bare(), local_processes=1)


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("fail_at", [1, 2])
def test_a_thread_that_cannot_be_started_is_an_error_of_start(
    start: Start, monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    begin = threading.Thread.start
    begun: list[str] = []

    def limited(thread: threading.Thread) -> None:
        if thread.name.startswith("enqueuer-worker"):
            begun.append(thread.name)
            if len(begun) == fail_at:
                raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    problem = f"worker thread {fail_at} of 3 cannot be started, can't start new thread: .*fewer workers"
    with pytest.raises(RuntimeError, match=problem):
        start(Bare(), threads=3)


# ---------------------------------------------------------------- running and ending


def test_threads_that_serve_at_once_lose_no_grant(start: Start) -> None:
    for _ in range(20):
        session = start(Bare(length=1), threads=2, max_queue_size=1)
        assert [session.next_batch() for _ in range(3)] == [(1, 0)] * 3
        session.stop(DEADLINE)


def test_statistics_can_be_read_while_a_session_runs_and_after_its_end(start: Start) -> None:
    session = start(Bare(length=5), threads=2)
    [session.next_batch() for _ in range(7)]
    stats = session.stats()
    assert (stats.running, stats.epoch, stats.taken_count, stats.length) == (True, 1, 2, 5)
    assert (stats.slots_count, stats.workers_count, session.workers_count) == (2, 1, 2)
    session.stop(DEADLINE)
    stats = session.stats()
    assert (stats.running, stats.batches_total, stats.workers_count) == (False, 7, 0)


def test_a_failure_is_known_before_its_turn(start: Start) -> None:
    class Failing(Bare):
        def on_epoch_end(self) -> None:
            raise LookupError("in the hook")

    session = start(Failing(length=2), threads=1)
    session.raise_failure()
    assert [session.next_batch(0) for _ in range(2)] == [(1, 0), (1, 1)]

    def has_failed() -> bool:
        try:
            session.raise_failure()
        except LookupError:
            return True
        return False

    wait_until(has_failed, what="the failure")
    with pytest.raises(StreamEnd):
        session.next_batch(0)
    with pytest.raises(LookupError, match="in the hook"):
        session.next_batch()


def test_the_last_taken_batchs_epoch_is_the_sessions(start: Start) -> None:
    session = start(Journaled(length=2), threads=1)
    assert (session.epoch, session.next_epoch) == (0, 0)
    [session.next_batch() for _ in range(2)]
    assert (session.epoch, session.next_epoch) == (0, 1)
    session.next_batch()
    assert (session.epoch, session.next_epoch) == (1, 1)


def test_stop_returns_whether_something_is_left_and_the_next_call_returns_the_same(start: Start) -> None:
    entered, release = threading.Event(), threading.Event()

    class Slow(Bare):
        def on_epoch_end(self) -> None:
            entered.set()
            assert release.wait(DEADLINE)

    session = start(Slow(length=1), threads=1)
    session.next_batch()
    assert entered.wait(DEADLINE)
    began = time.monotonic()
    assert session.stop(0.2) is False
    assert time.monotonic() - began < 5.0
    release.set()
    with pytest.raises(StreamEnd):
        session.next_batch()


def test_several_threads_may_stop_a_session_and_all_return_when_it_has_ended(start: Start) -> None:
    session = start(Bare(), threads=2)
    session.next_batch()
    ended: list[bool] = []

    def stop() -> None:
        session.stop(DEADLINE)
        ended.append(session.io.join(0.0))

    threads = [threading.Thread(target=stop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert ended == [True] * 4


def test_a_disarmed_session_gives_nothing_more_and_stops_at_once(start: Start) -> None:
    session = start(Bare(), threads=1)
    ready, io = session.ready, session.io
    session.disarm()
    with pytest.raises(StreamEnd):
        session.next_batch()
    assert session.stop(DEADLINE) is True
    # Here, unlike in a forked child, its threads are still there to be ended.
    session.ready, session._stopped = ready, threading.Event()
    assert session.stop(DEADLINE) is True and io.join(0.0)
