"""How many leases a second the pure core can grant, take the results of and deliver.

python -m tests.benchmarks.core_throughput [--workers N]… [--batches 64] [--seconds 3]

Each worker answers ``--batches`` leases a message, as workers with small batches do, and has room for twice as many. No
socket, codec or thread is in it: this is the share of the coordinator's time per batch that the core itself costs.
Whole epochs are timed, in this process's CPU time: what an epoch's end costs is in it, other processes are not, but for
what they take of the caches; the best epoch is the one that they disturbed least.
"""

from __future__ import annotations

import statistics
import time

import click

from enqueuer.core.actions import Deliver, EpochExhausted, Send
from enqueuer.core.coordinator import Coordinator
from enqueuer.core.events import ControlReceived, EpochOpened, Event, ResultsReceived, Route, Taken
from enqueuer.core.settings import ChannelFacts, SessionFacts
from enqueuer.options import Options
from enqueuer.protocol.messages import NO_ID, PROTOCOL_VERSION, Grant, Hello, Ready, Role

_SESSION = b"s" * 16
_EPOCH_LENGTH = 100_000
_BATCH_SECONDS = 20e-6
_LEAST_QUEUE = 256


class Worker:
    """Answers what it was granted, many leases a message."""

    def __init__(self, number: int) -> None:
        self.route = Route("local", number.to_bytes(4, "big"))
        self.incarnation = number.to_bytes(16, "big")
        self.granted: list[tuple[int, int, int]] = []
        self._seq = 0

    def hello(self) -> ControlReceived:
        hello = Hello(
            PROTOCOL_VERSION, Role.WORKER, "w", self.incarnation, b"", 0, "host", 1, "2.1.0", "0.1.0", b"", (), 0
        )
        return ControlReceived(self.route, NO_ID, hello)

    def take_grant(self, grant: Grant) -> None:
        for lease in range(grant.first_lease, grant.first_lease + len(grant.indices)):
            self.granted.append((grant.epoch, grant.generation, lease))

    def answer(self, count: int) -> ResultsReceived | None:
        """The first ones that it holds, of one epoch."""
        if not self.granted:
            return None
        epoch, generation, _ = self.granted[0]
        leases = [lease for of, _, lease in self.granted[:count] if of == epoch]
        del self.granted[: len(leases)]
        self._seq += 1
        busy = len(leases) * _BATCH_SECONDS
        return ResultsReceived(self.incarnation, epoch, generation, self._seq, busy, leases, leases, 1000 * len(leases))


class Trainer:
    """Takes everything at once. It opens the next epoch when the current one is leased, as a session does."""

    def __init__(self, workers_count: int, max_queue_size: int) -> None:
        channels = (ChannelFacts("local", "ipc:///x", local=True),)
        self.core = Coordinator(Options(hedge="off"), SessionFacts(_SESSION, channels, "2.1.0", max_queue_size), 0.0)
        workers = map(Worker, range(1, workers_count + 1))
        self.workers = {worker.route.address: worker for worker in workers}
        self.delivered_count = 0
        self._epoch = 0
        self._exhausted = -1
        self._now = 0.0
        joining: list[Event] = [self._open_epoch(), *(worker.hello() for worker in self.workers.values())]
        ready = Ready(0, 0, _EPOCH_LENGTH, b"")
        joining += [ControlReceived(worker.route, _SESSION, ready) for worker in self.workers.values()]
        self.handle(joining)

    def _open_epoch(self) -> EpochOpened:
        epoch = self._epoch
        return EpochOpened(
            epoch, epoch, 0, range(_EPOCH_LENGTH), _EPOCH_LENGTH, b"", None, ["m:f", {}], {}, gated=False
        )

    def handle(self, events: list[Event]) -> None:
        self._now += 1e-4
        while events:
            actions = self.core.handle(events, self._now)
            events = []
            for action in actions:
                if isinstance(action, Send) and isinstance(action.message, Grant):
                    self.workers[action.route.address].take_grant(action.message)
                elif isinstance(action, Deliver):
                    self.delivered_count += len(action.outcomes)
                elif isinstance(action, EpochExhausted):
                    self._exhausted = action.epoch
            if self._exhausted == self._epoch == self.delivered_count // _EPOCH_LENGTH:
                self._epoch += 1
                events.append(self._open_epoch())

    def run_epoch(self, batches_count: int) -> None:
        """Until as many were delivered as an epoch has."""
        end = self.delivered_count + _EPOCH_LENGTH
        while self.delivered_count < end:
            self.turn(batches_count)

    def turn(self, batches_count: int) -> None:
        """One poll: a result message of each worker, and what the trainer has taken meanwhile."""
        answers = (worker.answer(batches_count) for worker in self.workers.values())
        self.handle([*(answer for answer in answers if answer is not None), Taken(self.delivered_count)])


def measure(workers_count: int, batches_count: int, seconds: float) -> list[float]:
    """The CPU seconds of each epoch, until they are so many together."""
    trainer = Trainer(workers_count, max(_LEAST_QUEUE, 2 * workers_count * batches_count))
    trainer.run_epoch(batches_count)
    took: list[float] = []
    while sum(took) < seconds:
        started = time.process_time()
        trainer.run_epoch(batches_count)
        took.append(time.process_time() - started)
    return took


@click.command()
@click.option("--workers", "workers_counts", multiple=True, type=int, default=(2, 100, 1000), show_default=True)
@click.option("--batches", "batches_count", default=64, show_default=True, help="Leases a result message.")
@click.option("--seconds", default=3.0, show_default=True, help="CPU time for each number of workers, at least.")
def main(workers_counts: tuple[int, ...], batches_count: int, seconds: float) -> None:
    for workers_count in workers_counts:
        took = measure(workers_count, batches_count, seconds)
        median, best = statistics.median(took), min(took)
        click.echo(
            f"{workers_count:5} workers, {batches_count} leases a message: {_EPOCH_LENGTH / median:10,.0f} leases/s "
            f"({median / _EPOCH_LENGTH * 1e6:.2f} µs each); in the best epoch {_EPOCH_LENGTH / best:,.0f}"
        )
    click.echo("bar: >= 300,000 leases/s")


if __name__ == "__main__":
    main()
