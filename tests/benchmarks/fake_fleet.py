"""Many workers in one process that are workers on the wire only.

`python -m tests.benchmarks.fake_fleet ENDPOINT --workers 1000 [--batches 8] [--pace SECONDS] [--claim SECONDS]`

Each has a control and a data connection of its own, its own incarnation and heartbeats, and answers what it is granted
in result messages of ``--batches`` batches, made by the real codec. It computes nothing. A batch takes it ``--pace``
seconds (0: none), half of that more or less, of which it tells the coordinator, unless it is to ``--claim`` something
else. The program ends with Stop.

One ROUTER speaks for all control connections (the coordinator sees no difference): to poll a thousand sockets would
take longer than to serve them.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import zmq

from enqueuer.protocol import messages as m
from enqueuer.protocol.batch import EncodedBatch, Trust, encode_batch
from enqueuer.protocol.control_codec import decode_control, encode_control
from enqueuer.protocol.results_codec import Results, encode_results
from enqueuer.transport.sockets import configure
from tests.benchmarks.sequences import Small

# A message that does not become full leaves after this long, or the end of an epoch would be waited for.
_PATIENCE = 0.05
# Answers between two looks at what has come: a thousand processes would not keep a grant waiting, and a heartbeat that
# does not know of it makes it look lost.
_ANSWERS_PER_TURN = 50
# One host, so that its batches are compared with nobody's.
_SUPERVISOR = b"f" * 16
_LONGEST_WAIT_MS = 20


class FakeWorker:
    """What one of them holds, and when its next message is due (infinite: nothing is)."""

    def __init__(self, number: int, data: zmq.Socket[bytes]) -> None:
        self.route = f"w{number}".encode()
        self.incarnation = os.urandom(16)
        self.data = data
        self.connected = False
        self.seq = 0
        self.highest_grant = 0
        self.generation = 0
        self.held: deque[tuple[int, int, int]] = deque()
        self.unacknowledged: deque[tuple[int, tuple[int, ...]]] = deque()
        self.free_at = 0.0
        # How long the next message's batches take, by what batches take on average; and all of them together.
        self.slowness = 1.0
        self.busy = 0.0
        self.due = float("inf")

    def take(self, grant: m.Grant) -> None:
        leases = range(grant.first_lease, grant.first_lease + len(grant.indices))
        self.held.extend((grant.epoch, grant.generation, lease) for lease in leases)
        self.highest_grant = leases[-1]

    def drop(self, leases: tuple[int, ...]) -> None:
        self.held = deque(entry for entry in self.held if entry[2] not in leases)

    def acknowledge(self, received_seq: int) -> None:
        while self.unacknowledged and self.unacknowledged[0][0] <= received_seq:
            self.unacknowledged.popleft()

    def next_leases(self, count: int) -> tuple[int, int, tuple[int, ...]]:
        """Epoch, generation and leases of the next message: those of one epoch."""
        epoch, generation, _ = self.held[0]
        leases = []
        while self.held and len(leases) < count and self.held[0][0] == epoch:
            leases.append(self.held.popleft()[2])
        self.seq += 1
        self.unacknowledged.append((self.seq, tuple(leases)))
        return epoch, generation, tuple(leases)

    @property
    def all_leases(self) -> tuple[int, ...]:
        """Held, or sent and not acknowledged: what a heartbeat lists."""
        sent = [lease for _, leases in self.unacknowledged for lease in leases]
        return tuple(sorted([*sent, *(lease for _, _, lease in self.held)]))


class FakeFleet:
    """Times in seconds."""

    def __init__(self, endpoint: str, count: int, batches: int, pace: float, claim: float | None) -> None:
        self._endpoint = endpoint
        self._random = random.Random(0)
        self._batches, self._pace, self._claim = batches, pace, claim
        batch = Small(1)[0]
        self._encoded: list[EncodedBatch] = [encode_batch(batch, Trust.REMOTE)] * batches
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, count + 16)
        self._router = configure(self._context.socket(zmq.ROUTER))
        self._workers: dict[bytes, FakeWorker] = {}
        for number in range(count):
            worker = FakeWorker(number, configure(self._context.socket(zmq.PUSH)))
            self._router.setsockopt(zmq.CONNECT_ROUTING_ID, worker.route)
            self._router.connect(endpoint)
            self._workers[worker.route] = worker
        self._session = m.NO_ID
        self._interval = 1.0
        self._welcome: m.Welcome | None = None
        self._stopped = False
        self._due: list[tuple[float, bytes]] = []
        self._beats: deque[tuple[float, FakeWorker]] = deque()

    def run(self) -> None:
        """Until the coordinator says Stop."""
        self._begin()
        while not self._stopped:
            now = time.monotonic()
            wait = min([self._beats[0][0], *(due for due, _ in self._due[:1])]) - now
            if self._router.poll(min(_LONGEST_WAIT_MS, max(0, int(wait * 1000)))):
                self._hear()
            self._answer(time.monotonic())
            self._beat(time.monotonic())
        self._context.destroy(linger=0)

    def _begin(self) -> None:
        """Heartbeats of the whole fleet are spread evenly, as those of workers that start by themselves are."""
        now = time.monotonic()
        for number, worker in enumerate(self._workers.values()):
            hello = m.Hello(
                m.PROTOCOL_VERSION,
                m.Role.WORKER,
                worker.route.decode(),
                worker.incarnation,
                _SUPERVISOR,
                0,
                "nowhere",
                os.getpid(),
                np.__version__,
                "0.1.0",
                b"",
                (),
                0,
            )
            self._say(worker, hello)
            self._beats.append((now + self._interval * (1 + number / len(self._workers)), worker))

    def _say(self, worker: FakeWorker, message: m.Message) -> None:
        self._router.send_multipart((worker.route, encode_control(self._session, message)))

    # ------------------------------------------------------------ hearing

    def _hear(self) -> None:
        touched: dict[bytes, FakeWorker] = {}
        while True:
            try:
                route, frame = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._session, message = decode_control(frame)
            worker = touched[route] = self._workers[route]
            handler = self._HANDLERS.get(type(message))
            if handler is not None:
                handler(self, worker, message)
        for worker in touched.values():
            self._plan(worker)

    def _on_welcome(self, worker: FakeWorker, message: m.Welcome) -> None:
        self._welcome = message
        self._interval = message.heartbeat_interval
        if not worker.connected:
            worker.connected = True
            host = self._endpoint.removeprefix("tcp://").rpartition(":")[0]
            worker.data.connect(message.data_endpoint.replace("*", host))

    def _on_epoch(self, worker: FakeWorker, message: m.Epoch) -> None:
        assert self._welcome is not None
        options = self._welcome.options
        worker.generation = max(worker.generation, message.generation)
        ready = m.Ready(message.epoch, message.generation, options["sequence_length"], options["sequence_digest"])
        self._say(worker, ready)

    def _on_grant(self, worker: FakeWorker, message: m.Grant) -> None:
        worker.acknowledge(message.received_seq)
        worker.take(message)

    def _on_reply(self, worker: FakeWorker, message: m.HeartbeatReply) -> None:
        worker.acknowledge(message.received_seq)

    def _on_revoke(self, worker: FakeWorker, message: m.Revoke) -> None:
        worker.drop(message.leases)

    def _on_end(self, worker: FakeWorker, message: m.Stop | m.Reject) -> None:
        if isinstance(message, m.Reject):
            raise SystemExit(f"rejected: {message.reason}")
        self._stopped = True

    _HANDLERS: ClassVar[dict[type, Callable[..., Any]]] = {
        m.Welcome: _on_welcome,
        m.Epoch: _on_epoch,
        m.Grant: _on_grant,
        m.HeartbeatReply: _on_reply,
        m.Revoke: _on_revoke,
        m.Stop: _on_end,
        m.Reject: _on_end,
    }

    # ------------------------------------------------------------ answering

    def _plan(self, worker: FakeWorker) -> None:
        """When its next message is due: once it is full, or when it is not waited for any longer."""
        if not worker.held:
            worker.due = float("inf")
            return
        now = time.monotonic()
        count = min(self._batches, len(worker.held))
        patience = 0.0 if count == self._batches else _PATIENCE
        busy = count * self._pace * worker.slowness
        due = max(now, worker.free_at) + busy + patience
        if due < worker.due:
            worker.due, worker.busy = due, busy
            heapq.heappush(self._due, (due, worker.route))

    def _answer(self, now: float) -> None:
        for _ in range(_ANSWERS_PER_TURN):
            if not self._due or self._due[0][0] > now:
                return
            due, route = heapq.heappop(self._due)
            worker = self._workers[route]
            if worker.due != due:
                continue  # it was due earlier, and has been
            worker.due = float("inf")
            if worker.held:
                self._send_results(worker)
                worker.free_at = due if self._pace else 0.0
                worker.slowness = self._random.uniform(0.5, 1.5)
            self._plan(worker)

    def _send_results(self, worker: FakeWorker) -> None:
        epoch, generation, leases = worker.next_leases(self._batches)
        busy = worker.busy if self._claim is None else len(leases) * self._claim
        encoded = self._encoded[: len(leases)]
        results = Results(worker.incarnation, epoch, generation, worker.seq, busy, leases, encoded)
        worker.data.send_multipart(encode_results(self._session, results))

    def _beat(self, now: float) -> None:
        while self._beats[0][0] <= now:
            due, worker = self._beats.popleft()
            self._beats.append((max(due, now - self._interval / 2) + self._interval, worker))
            running = worker.held[0][2] if worker.held else 0
            beat = m.Heartbeat(
                worker.all_leases, worker.highest_grant, worker.generation, worker.seq, running, now, 0.0
            )
            self._say(worker, beat)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("endpoint")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--batches", type=int, default=8, help="in one result message")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds that a batch takes")
    parser.add_argument("--claim", type=float, default=None, help="seconds that it is said to take")
    arguments = parser.parse_args()
    FakeFleet(arguments.endpoint, arguments.workers, arguments.batches, arguments.pace, arguments.claim).run()


if __name__ == "__main__":
    main()
