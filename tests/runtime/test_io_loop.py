"""The I/O thread with a real coordinator and real sockets; the peers are bare sockets driven by the test."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from enqueuer.core.actions import FleetFailed, Show
from enqueuer.core.events import EpochOpened, StopRequested, SupervisorDied, ThreadsJoined
from enqueuer.core.peer import UNIDENTIFIED_LIMIT
from enqueuer.core.settings import ChannelFacts
from enqueuer.errors import EnqueuerError
from enqueuer.memory.arena import Arena
from enqueuer.memory.slab_exchange import SlabReceiver, SlabSender
from enqueuer.protocol.batch import Trust, encode_batch
from enqueuer.protocol.control_codec import decode_control, encode_control
from enqueuer.protocol.messages import (
    NO_ID,
    Epoch,
    ErrorRecord,
    Failure,
    Grant,
    Hello,
    LoadFailure,
    Log,
    Message,
    NoBlocks,
    Observe,
    Ready,
    Reject,
    Role,
    Stop,
    Welcome,
)
from enqueuer.protocol.observation import Snapshot
from enqueuer.protocol.results_codec import Results, encode_results
from enqueuer.runtime.channels import Channel
from enqueuer.runtime.io_loop import IoLoop
from enqueuer.runtime.local_threads import ROUTE
from enqueuer.runtime.ready_queue import ReadyQueue
from enqueuer.transport.sockets import CoordinatorSockets, new_context
from tests.support.core_options import make_coordinator
from tests.support.waiting import wait_until

DEADLINE = 30.0
SESSION = b"s" * 16
SECRET = b"the secret of this run"
LOOPBACK = "tcp://127.0.0.1:*"
OPENED = EpochOpened(0, 0, 5, range(3), 3, b"", {}, ["a.b:c", {}], {}, False)


class Trainer:
    """A loop with a remote channel, and a local channel that requires a secret."""

    def __init__(self, heartbeat_interval: float = 0.2) -> None:
        self.context = new_context()
        self.slabs = SlabReceiver(Path(tempfile.gettempdir()) / f"slabs-{os.urandom(8).hex()}")
        self.channels = [
            Channel("remote", CoordinatorSockets(self.context, LOOPBACK, LOOPBACK), Trust.REMOTE),
            Channel("local", CoordinatorSockets(self.context, LOOPBACK, LOOPBACK), Trust.LOCAL, SECRET, self.slabs),
        ]
        facts = tuple(
            ChannelFacts(channel.name, channel.sockets.data_endpoint, local=channel.trust is Trust.LOCAL)
            for channel in self.channels
        )
        timing = {"heartbeat_interval": heartbeat_interval, "worker_timeout": max(10.0, 2 * heartbeat_interval)}
        self.coordinator = make_coordinator(SESSION, facts, time.monotonic(), **timing)
        self.failures: list[BaseException] = []
        self.fleet_failures: list[FleetFailed] = []
        self.exhausted: list[int] = []
        self.ended: list[int] = []
        self.in_process: list[Message] = []
        self.ready = ReadyQueue(0, lambda: self.io.wake(), lambda _: None, lambda _: None)
        self.io = IoLoop(
            self.coordinator,
            self.context,
            self.channels,
            self.ready,
            in_process=self.in_process.append,
            on_exhausted=self.exhausted.append,
            on_ended=self.ended.append,
            on_fleet_failed=self.fleet_failures.append,
            on_failure=self.failures.append,
            on_turn=lambda _now: None,
            make_snapshot=self.make_snapshot,
        )
        self.endpoints = {channel.name: channel.sockets.control_endpoint for channel in self.channels}
        self.data_endpoints = {channel.name: channel.sockets.data_endpoint for channel in self.channels}
        self.io.start()

    def make_snapshot(self, show: Show) -> Snapshot:
        """Shows nothing: only sessions can."""
        raise ValueError(f"a defect at row {show.first_row}")

    def open(self, opened: EpochOpened = OPENED) -> None:
        self.ready.set_length(opened.epoch, len(opened.order))
        self.io.post(opened)

    def ask(self, function: Callable[[], Any]) -> Any:
        return self.io.call(function).result(DEADLINE)

    def malformed_count(self) -> int:
        return int(self.ask(lambda: self.coordinator.state.peers.malformed_count))

    def stop(self) -> None:
        self.io.post(StopRequested())
        assert self.io.join(DEADLINE)
        assert not self.slabs.path.exists()


class Peer:
    """A worker that sends only what the test tells it to."""

    def __init__(self, trainer: Trainer, channel: str = "remote") -> None:
        self.incarnation = os.urandom(16)
        self.secret = SECRET if channel == "local" else b""
        self._context = new_context()
        self.control = self._connect(zmq.DEALER, trainer.endpoints[channel])
        self.data = self._connect(zmq.PUSH, trainer.data_endpoints[channel])

    def _connect(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(address)
        return socket

    def hello(self, **other: Any) -> Hello:
        hello = Hello(1, Role.WORKER, "peer", self.incarnation, NO_ID, 0, "there", 1, "2.1", "0", self.secret, (), 0)
        return replace(hello, **other)

    def say(self, message: Message, session: bytes = SESSION) -> None:
        self.control.send(encode_control(session, message))

    def hear(self, kind: type[Any]) -> Any:
        end = time.monotonic() + DEADLINE
        while True:
            assert self.control.poll(int(max(0.0, end - time.monotonic()) * 1000)), f"no {kind.__name__}"
            _, message = decode_control(self.control.recv())
            if isinstance(message, kind):
                return message

    def serve(self) -> Grant:
        """Join and receive a grant of the whole epoch."""
        self.say(self.hello(), NO_ID)
        self.hear(Epoch)
        self.say(Ready(0, 0, 3, b""))
        grant: Grant = self.hear(Grant)
        return grant

    def results(self, seq: int, lease: int, batch: Any, session: bytes = SESSION) -> list[Any]:
        encoded = encode_batch(batch, Trust.LOCAL if self.secret else Trust.REMOTE)
        return list(encode_results(session, Results(self.incarnation, 0, 0, seq, 0.01, (lease,), [encoded])))

    def close(self) -> None:
        self.control.close()
        self.data.close()
        self._context.term()


@pytest.fixture
def trainer() -> Iterator[Trainer]:
    made = Trainer()
    yield made
    made.stop()
    assert made.failures == []


@pytest.fixture
def peer_at(trainer: Trainer) -> Iterator[Callable[[str], Peer]]:
    peers: list[Peer] = []

    def connect(channel: str) -> Peer:
        peers.append(Peer(trainer, channel))
        return peers[-1]

    yield connect
    for peer in peers:
        peer.close()


@pytest.fixture
def peer(peer_at: Callable[[str], Peer]) -> Peer:
    return peer_at("remote")


# ---------------------------------------------------------------- what peers say


def test_a_defect_in_what_an_observer_is_shown_does_not_end_the_session(
    trainer: Trainer, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    trainer.open()
    peer.say(Observe(0, 10, 0), NO_ID)
    wait_until(lambda: "a defect at row 0" in caplog.text)
    assert peer.serve().indices


def test_a_worker_joins_is_granted_and_its_batches_are_ready_in_order(trainer: Trainer, peer: Peer) -> None:
    trainer.open()
    grant = peer.serve()
    answered = 0
    while True:
        for lease, index in enumerate(grant.indices, grant.first_lease):
            answered += 1
            peer.data.send_multipart(peer.results(answered, lease, {"x": index}))
        if answered == 3:
            break
        grant = peer.hear(Grant)
    assert [trainer.ready.take().build() for _ in range(3)] == [{"x": 0}, {"x": 1}, {"x": 2}]
    assert trainer.exhausted == [0]
    assert trainer.io.receiver.bytes_total > 0


@pytest.mark.proves("a peer sends nonsense")
@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\xc1 no msgpack"],
        [b"\x01"],
        [os.urandom(200)],
        [encode_control(SESSION, Stop()), b"one frame too many"],
        [encode_control(SESSION, Stop())[:-3]],
    ],
)
def test_a_malformed_control_message_is_counted_and_the_loop_goes_on(
    trainer: Trainer, peer: Peer, frames: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    peer.control.send_multipart(frames)
    wait_until(lambda: trainer.malformed_count() == 1)
    peer.say(peer.hello(), NO_ID)
    trainer.open()
    assert peer.hear(Welcome).sequence == ["a.b:c", {}]
    assert "dropped a malformed message on the remote sockets" in caplog.text


@pytest.mark.proves("a peer sends nonsense")
@pytest.mark.parametrize("frames", [[b""], [b"\xc1"], [os.urandom(100)], [b"\x93\x40\xc4\x00\x01", b"more"]])
def test_a_malformed_result_message_is_counted_and_the_loop_goes_on(
    trainer: Trainer, peer: Peer, frames: list[bytes]
) -> None:
    trainer.open()
    grant = peer.serve()
    peer.data.send_multipart(frames)
    wait_until(lambda: trainer.malformed_count() == 1)
    peer.data.send_multipart(peer.results(1, grant.first_lease, "whole"))
    assert trainer.ready.take().build() == "whole"


def test_a_result_message_that_lacks_a_frame_is_counted(trainer: Trainer, peer: Peer) -> None:
    trainer.open()
    grant = peer.serve()
    whole = peer.results(1, grant.first_lease, b"x" * 100_000)
    peer.data.send_multipart(whole[:-1])
    again = peer.hear(Grant)
    assert trainer.malformed_count() == 1
    assert again.indices == grant.indices
    peer.data.send_multipart(peer.results(2, again.first_lease, b"x" * 100_000))
    assert len(trainer.ready.take().build()) == 100_000


def test_only_the_first_malformed_messages_are_logged(
    trainer: Trainer, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(30):
        peer.control.send(b"\xc1")
    wait_until(lambda: trainer.malformed_count() == 30)
    assert caplog.text.count("dropped a malformed message") == 10
    assert caplog.text.count("further malformed messages are only counted") == 1


def test_results_of_another_session_are_dropped_and_not_malformed(trainer: Trainer, peer: Peer) -> None:
    trainer.open()
    grant = peer.serve()
    peer.data.send_multipart(peer.results(1, grant.first_lease, "old", session=b"o" * 16))
    peer.data.send_multipart(peer.results(1, grant.first_lease, "new"))
    assert trainer.ready.take().build() == "new"
    assert trainer.malformed_count() == 0


def test_a_pickle_in_a_remote_result_is_refused_and_a_local_one_is_not(
    trainer: Trainer, peer_at: Callable[[str], Peer]
) -> None:
    peer = peer_at("remote")
    trainer.open()
    grant = peer.serve()
    encoded = encode_batch({1, 2}, Trust.LOCAL)
    results = Results(peer.incarnation, 0, 0, 1, 0.0, (grant.first_lease,), [encoded])
    peer.data.send_multipart(encode_results(SESSION, results))
    wait_until(lambda: trainer.malformed_count() == 1)
    assert trainer.ready.progress[3] == 0


def chained(depth: int) -> ErrorRecord:
    """A record with a pickle in its innermost cause."""
    record = ErrorRecord("m", "E", "text", "", pickled_type=b"a pickle")
    for _ in range(depth):
        record = ErrorRecord("builtins", "ValueError", "text", "", cause=record)
    return record


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_a_pickle_anywhere_in_a_remote_error_is_refused(trainer: Trainer, peer: Peer, depth: int) -> None:
    trainer.open()
    grant = peer.serve()
    peer.say(Failure(0, 0, grant.first_lease, chained(depth)))
    peer.say(LoadFailure(0, 0, chained(depth)))
    wait_until(lambda: trainer.malformed_count() == 2)
    assert trainer.ready.progress[3] == 0
    peer.say(Failure(0, 0, grant.first_lease, ErrorRecord("builtins", "ValueError", "plain", "", args=("plain",))))
    assert trainer.ready.take().error.text == "plain"


def test_a_pickled_class_is_taken_from_the_trainers_own_process(
    trainer: Trainer, peer_at: Callable[[str], Peer]
) -> None:
    peer = peer_at("local")
    trainer.open()
    grant = peer.serve()
    peer.say(Failure(0, 0, grant.first_lease, chained(0)))
    assert trainer.ready.take().error.pickled_type == b"a pickle"
    assert trainer.malformed_count() == 0


@pytest.mark.parametrize("secret", [b"", b"another", SECRET[:-1], SECRET + b"!"])
def test_a_wrong_secret_is_rejected_and_the_worker_unknown(
    trainer: Trainer, peer_at: Callable[[str], Peer], secret: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    peer = peer_at("local")
    peer.say(peer.hello(secret=secret), NO_ID)
    assert peer.hear(Reject).reason == "wrong secret"
    assert trainer.ask(lambda: list(trainer.coordinator.state.fleet)) == []
    assert "worker peer on there has a wrong secret" in caplog.text


def test_a_peer_that_keeps_sending_wrong_secrets_is_banned(
    trainer: Trainer, peer_at: Callable[[str], Peer], caplog: pytest.LogCaptureFixture
) -> None:
    peer = peer_at("local")
    for _ in range(2 * UNIDENTIFIED_LIMIT):
        peer.say(peer.hello(secret=b"guess"), NO_ID)
    wait_until(lambda: "cut off a peer" in caplog.text)
    peer.say(peer.hello(), NO_ID)  # the right one comes too late
    assert trainer.ask(lambda: list(trainer.coordinator.state.fleet)) == []
    assert caplog.text.count("has a wrong secret") < UNIDENTIFIED_LIMIT


def test_a_line_from_a_worker_goes_to_the_remote_logger(
    trainer: Trainer, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    trainer.open()
    peer.serve()
    peer.say(Log(logging.WARNING, "their.logger", "disk %s is nearly full"))
    wait_until(lambda: "nearly full" in caplog.text)
    (record,) = [record for record in caplog.records if record.name == "enqueuer.remote"]
    assert record.getMessage() == "[peer on there] their.logger: disk %s is nearly full"
    assert record.levelno == logging.WARNING


def test_a_peer_that_is_gone_is_a_lost_route_and_not_an_error(trainer: Trainer, peer: Peer) -> None:
    trainer.open()
    peer.serve()
    peer.control.close()
    # The next thing that the core has to say to it cannot be sent.
    wait_until(
        lambda: trainer.ask(lambda: [worker.route for worker in trainer.coordinator.state.fleet]) in ([None], [])
    )


def test_peers_hear_stop_before_the_sockets_close(trainer: Trainer, peer: Peer) -> None:
    trainer.open()
    peer.serve()
    trainer.stop()
    assert peer.hear(Stop) == Stop()


def test_messages_to_the_trainers_threads_reach_them(trainer: Trainer) -> None:
    trainer.open()
    trainer.io.post(ThreadsJoined(ROUTE, b"t" * 16, "here", 1, 2))
    wait_until(lambda: any(isinstance(message, Grant) for message in trainer.in_process), what="a grant")


# ---------------------------------------------------------------- what other threads say


def test_a_call_runs_in_the_io_thread_and_gives_its_result_or_its_error(trainer: Trainer) -> None:
    assert trainer.ask(lambda: threading.current_thread().name) == "enqueuer-io"
    with pytest.raises(ZeroDivisionError):
        trainer.ask(lambda: 1 // 0)
    assert trainer.ask(lambda: "alive") == "alive"


def test_many_threads_call_at_once_and_each_gets_its_own_answer(trainer: Trainer) -> None:
    answers: dict[int, list[int]] = {}

    def ask(number: int) -> None:
        answers[number] = [trainer.ask(partial(int, value)) for value in range(number, number + 100)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert answers == {number: list(range(number, number + 100)) for number in range(8)}


class WritesMeanwhile:
    """The loop's own end of its wake-up pair; another thread wakes the loop just before it is read."""

    def __init__(self, reader: Any, io: IoLoop) -> None:
        self._reader = reader
        self._io = io

    def recv(self, size: int) -> Any:
        self._io.wake()
        return self._reader.recv(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def test_a_wake_up_while_the_last_one_is_read_is_not_lost() -> None:
    """The loop has nothing else to wake it: its own timers are a minute away."""
    trainer = Trainer(heartbeat_interval=120.0)
    try:
        trainer.ask(lambda: setattr(trainer.io, "_wake_reader", WritesMeanwhile(trainer.io._wake_reader, trainer.io)))
        for number in range(20):
            assert trainer.ask(partial(int, number)) == number
    finally:
        trainer.stop()


def test_a_watched_descriptor_calls_back_once_in_the_io_thread(trainer: Trainer) -> None:
    reader, writer = os.pipe()
    called: list[str] = []
    try:
        trainer.io.watch(reader, lambda: called.append(threading.current_thread().name))
        assert trainer.ask(lambda: called) == []
        os.write(writer, b"x")
        wait_until(lambda: called == ["enqueuer-io"])
        os.write(writer, b"y")
        for _ in range(3):
            trainer.ask(lambda: None)
        assert called == ["enqueuer-io"]
    finally:
        os.close(writer)
        os.close(reader)


def test_a_watched_pipe_calls_back_when_its_other_end_closes(trainer: Trainer) -> None:
    reader, writer = os.pipe()
    called: list[int] = []
    trainer.io.watch(reader, lambda: called.append(reader))
    os.close(writer)
    wait_until(lambda: called == [reader])
    os.close(reader)


# ---------------------------------------------------------------- the end


def test_posts_after_the_end_are_harmless_and_calls_are_cancelled(trainer: Trainer) -> None:
    trainer.stop()
    trainer.io.post(SupervisorDied(b"x" * 16))
    trainer.io.wake()
    trainer.io.watch(0, lambda: None)
    with pytest.raises(CancelledError):
        trainer.io.call(lambda: 1).result(DEADLINE)


def test_calls_that_race_with_the_end_are_answered_or_cancelled() -> None:
    for _ in range(10):
        trainer = Trainer()
        futures = []
        trainer.io.post(StopRequested())
        while not trainer.io.join(0.0):
            futures.append(trainer.io.call(lambda: 1))
        futures.append(trainer.io.call(lambda: 1))
        for future in futures:
            with contextlib.suppress(CancelledError):
                assert future.result(DEADLINE) == 1


def test_join_in_the_io_thread_itself_returns_at_once(trainer: Trainer) -> None:
    assert trainer.ask(lambda: trainer.io.join(math.inf)) is True


def test_all_sockets_are_closed_at_the_end(trainer: Trainer) -> None:
    trainer.stop()
    assert trainer.context.closed
    assert all(channel.sockets.router.closed and channel.sockets.pull.closed for channel in trainer.channels)


def test_a_defect_in_the_loop_is_an_error_for_the_consumer_and_not_a_hang(caplog: pytest.LogCaptureFixture) -> None:
    trainer = Trainer()
    trainer.io.post("no event at all")  # type: ignore[arg-type]
    assert trainer.io.join(DEADLINE)
    (failure,) = trainer.failures
    assert isinstance(failure, EnqueuerError) and "internal error in the I/O thread" in str(failure)
    assert trainer.context.closed
    assert "the I/O thread failed" in caplog.text


# ---------------------------------------------------------------- shared memory


def named(peer: Peer, lease: int, arena: Arena) -> list[Any]:
    """A result message with a block in shared memory."""
    encoded = encode_batch(np.full(50_000, lease), Trust.LOCAL, arena)
    return encode_results(SESSION, Results(peer.incarnation, 0, 0, lease, 0.01, (lease,), [encoded]), blocks=True)


def test_a_batch_in_a_local_peers_shared_memory_is_handed_over_as_it_lies_there(trainer: Trainer) -> None:
    with contextlib.closing(Peer(trainer, "local")) as peer:
        sender = SlabSender(trainer.slabs.path, trainer.slabs.secret, peer.incarnation)
        arena = Arena(sender.send)
        trainer.open()
        first = peer.serve().first_lease
        for lease in range(first, first + 3):
            # One after the other: the next lease is granted with this one's delivery.
            peer.data.send_multipart(named(peer, lease, arena))
            batch = trainer.ready.take(None).build()
            assert (batch == lease).all()
            del batch
        assert trainer.malformed_count() == 0
        sender.close()


def test_a_local_peer_whose_shared_memory_cannot_be_read_is_asked_to_send(
    trainer: Trainer, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(Peer(trainer, "local")) as peer:
        trainer.open()
        lease = peer.serve().first_lease
        peer.data.send_multipart(named(peer, lease, Arena(lambda *_: None)))
        peer.hear(NoBlocks)
        assert "come through the socket" in caplog.text
        peer.data.send_multipart(peer.results(lease, lease, "sent"))
        assert trainer.ready.take(None).build() == "sent"


def test_a_remote_peer_that_names_shared_memory_is_only_counted(trainer: Trainer) -> None:
    with contextlib.closing(Peer(trainer)) as peer:
        trainer.open()
        lease = peer.serve().first_lease
        peer.data.send_multipart(named(peer, lease, Arena(lambda *_: None)))
        wait_until(lambda: trainer.malformed_count() == 1, what="the count")
