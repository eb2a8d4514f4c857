"""What a batch costs the coordinator's I/O thread, by the fleet's size: `python -m tests.benchmarks.coordinator_cost`.

CPU time of that thread alone, over loopback TCP, with a trainer that takes everything. The workers are fakes on the
wire (`fake_fleet.py`), so that a thousand of them fit one machine; a batch is (32, 10) float32 and 32 labels. Loads:

- **full**: each worker answers at once what it was granted, eight batches a message, and says that a batch takes it
  0.5 ms, so that it is given ten leases: 10 outstanding ones with one worker, 10 000 with a thousand.
- **singly**: the same, one batch a message.
- **paced**: the whole fleet makes ``--rate`` batches a second, however large it is (1 000 workers: 200 ms a batch at
  5 000/s), half of that more or less, one batch a message. The loop then turns for a few messages at a time, so that
  what it does once a turn for the whole fleet would show.
- **default**: the same with the default ``max_queue_size``, which leaves workers idle while a late batch is waited for.

The bar is the ratio of each fleet's cost to that of one worker. Rounds are interleaved: all see the same machine.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from enqueuer import SequenceEnqueuer, SequenceSpec
from enqueuer.runtime.session import Session
from tests.support.remote import REPOSITORY, environment

_LOADS = ("full", "singly", "paced", "default")
_LENGTH = 10_000_000
_MAX_QUEUE_SIZE, _DEFAULT_QUEUE_SIZE = 20_000, 10
_BATCHES = 8
_CLAIM_SECONDS = 0.0005
_FLEET_SECONDS = 60.0
# The first grants have the order in long runs, which come out one a round of all workers.
_WARM_UP_SECONDS, _WARM_UP_BATCHES = 1.0, 20
_FLATNESS = 1.5


class Load(NamedTuple):
    """``pace`` is what a batch takes each worker of a fleet of that size, ``claim`` what it says that it takes."""

    batches: int
    pace: Callable[[int], float]
    claim: float | None = None
    max_queue_size: int = _MAX_QUEUE_SIZE


class Counters(NamedTuple):
    """Of the I/O thread, at one moment."""

    thread_seconds: float
    seconds: float
    # Answered by workers, which is steadier than what comes out in order.
    batches_count: int
    messages_count: int
    leased_count: int


class Cost(NamedTuple):
    """A batch's seconds of the thread; what part of its time it was busy; and under what load."""

    seconds: float
    share: float
    rate: float
    batches_a_message: float
    leased_count: int


def measure(workers_count: int, load: Load, seconds: float) -> Cost:
    """One session with a fleet of its own."""
    spec = SequenceSpec("tests.benchmarks.sequences:Small", length=_LENGTH)
    with SequenceEnqueuer(spec, bind="tcp://127.0.0.1:*", min_workers=workers_count, seed=0) as enqueuer:
        enqueuer.start(0, load.max_queue_size)
        session = enqueuer._session
        assert isinstance(session, Session) and enqueuer.endpoint is not None
        fleet = _start_fleet(enqueuer.endpoint, workers_count, load)
        try:
            enqueuer.wait_for_workers(workers_count, _FLEET_SECONDS)
            batches = enqueuer.get()
            _take(batches, _WARM_UP_SECONDS, _WARM_UP_BATCHES * workers_count)
            before = _count(session)
            _take(batches, seconds, 0)
            after = _count(session)
        finally:
            enqueuer.stop()
            _end(fleet)
    return _cost(before, after)


def _start_fleet(endpoint: str, workers_count: int, load: Load) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.benchmarks.fake_fleet", endpoint, "--workers", str(workers_count)]
    command += ["--batches", str(load.batches), "--pace", str(load.pace(workers_count))]
    command += [] if load.claim is None else ["--claim", str(load.claim)]
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment())


def _end(fleet: subprocess.Popen[bytes]) -> None:
    try:
        fleet.wait(5.0)
    except subprocess.TimeoutExpired:
        fleet.kill()
        fleet.wait()


def _take(batches: Iterator[Any], seconds: float, least: int) -> None:
    """For so long, and so many at least."""
    end, taken_count = time.monotonic() + seconds, 0
    while taken_count < least or time.monotonic() < end:
        next(batches)
        taken_count += 1


def _count(session: Session) -> Counters:
    """Taken in the thread itself, whose clock no other can read."""

    def read() -> Counters:
        workers = list(session.coordinator.state.fleet)
        return Counters(
            time.thread_time(),
            time.monotonic(),
            sum(worker.batches_count for worker in workers),
            sum(worker.received_seq + len(worker.received_ahead) for worker in workers),
            session.coordinator.state.ledger.leased_count,
        )

    return session.io.call(read).result()


def _cost(before: Counters, after: Counters) -> Cost:
    busy, elapsed = after.thread_seconds - before.thread_seconds, after.seconds - before.seconds
    batches = after.batches_count - before.batches_count
    messages = after.messages_count - before.messages_count
    return Cost(busy / batches, busy / elapsed, batches / elapsed, batches / messages, after.leased_count)


def _median(costs: list[Cost]) -> Cost:
    """The one in the middle, so that its columns belong together."""
    return sorted(costs)[(len(costs) - 1) // 2]


def _make_loads(rate: float) -> dict[str, Load]:
    def pace(workers_count: int) -> float:
        return workers_count / rate

    return {
        "full": Load(_BATCHES, lambda _: 0.0, _CLAIM_SECONDS),
        "singly": Load(1, lambda _: 0.0, _CLAIM_SECONDS),
        "paced": Load(1, pace),
        "default": Load(1, pace, max_queue_size=_DEFAULT_QUEUE_SIZE),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--loads", nargs="+", choices=_LOADS, default=_LOADS)
    parser.add_argument("--rate", type=float, default=5_000.0, help="batches a second of the paced fleet")
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    # A machine that starves the fakes makes grants look lost, a thousand lines of it.
    logging.getLogger("enqueuer").setLevel(logging.ERROR)
    loads = _make_loads(arguments.rate)
    rounds = [
        {
            (name, count): measure(count, loads[name], arguments.seconds)
            for name in arguments.loads
            for count in arguments.workers
        }
        for _ in range(arguments.runs)
    ]
    print(f"CPU time of the coordinator's I/O thread, median of {arguments.runs} interleaved runs")
    print(
        f"{'load':8}{'workers':>8}{'µs/batch':>10}{'x the least':>12}{'busy':>7}"
        f"{'batches/s':>11}{'a message':>11}{'leased':>8}"
    )
    for name in arguments.loads:
        medians = {count: _median([costs[name, count] for costs in rounds]) for count in arguments.workers}
        least = medians[min(medians)].seconds
        for count, cost in medians.items():
            print(
                f"{name:8}{count:>8}{cost.seconds * 1e6:>10.1f}{cost.seconds / least:>12.2f}{cost.share:>7.0%}"
                f"{cost.rate:>11,.0f}{cost.batches_a_message:>11.2f}{cost.leased_count:>8}"
            )
    print(f"bar: <= {_FLATNESS} x the cost with one worker")


if __name__ == "__main__":
    main()
