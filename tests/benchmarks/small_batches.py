"""Small batches from two local processes, beside plain pyzmq: `python -m tests.benchmarks.small_batches`.

The baseline is PUSH/PULL of the same payload with msgpack-numpy between two bare processes and this one: no order, no
acknowledgement, nothing survives a death. Runs are interleaved, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgpack
import msgpack_numpy
import zmq

from enqueuer import SequenceEnqueuer
from tests.benchmarks.sequences import Small


def enqueuer_rate(count: int, max_queue_size: int) -> float:
    """Batches a second of one ordered epoch from 2 local processes, from the first batch on."""
    with SequenceEnqueuer(Small(count), True, min_workers=2) as enqueuer:
        enqueuer.start(2, max_queue_size)
        batches = enqueuer.epoch()
        next(batches)
        started = time.perf_counter()
        received = sum(1 for _ in batches)
        elapsed = time.perf_counter() - started
    assert received == count - 1
    return received / elapsed


def bare_rate(count: int) -> float:
    """The same from two bare PUSH processes, unordered."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"ipc://{Path(folder) / 'bare'}"
        with zmq.Context() as context, context.socket(zmq.PULL) as pull:
            pull.bind(address)
            command = [sys.executable, "-m", "tests.benchmarks.small_batches", "--push", address, str(count // 2)]
            pushers = [subprocess.Popen(command, env=os.environ) for _ in range(2)]
            for _ in pushers:
                _decode(pull.recv())
            started = time.perf_counter()
            total = count // 2 * 2
            for _ in range(total - 2):
                _decode(pull.recv())
            elapsed = time.perf_counter() - started
            for pusher in pushers:
                pusher.wait()
    return (total - 2) / elapsed


def _decode(message: bytes) -> object:
    return msgpack.unpackb(message, object_hook=msgpack_numpy.decode, strict_map_key=False)


def _push(address: str, count: int) -> None:
    sequence = Small(count)
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.connect(address)
        for index in range(count):
            push.send(msgpack.packb(sequence[index], default=msgpack_numpy.encode))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--count", type=int, default=60_000)
    parser.add_argument("--push", nargs=2, metavar=("ADDRESS", "COUNT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.push:
        _push(arguments.push[0], int(arguments.push[1]))
        return
    rows: dict[str, list[float]] = {"max_queue_size=256": [], "max_queue_size=10": [], "bare PUSH/PULL": []}
    for _ in range(arguments.runs):
        rows["max_queue_size=256"].append(enqueuer_rate(arguments.count, 256))
        rows["max_queue_size=10"].append(enqueuer_rate(arguments.count, 10))
        rows["bare PUSH/PULL"].append(bare_rate(arguments.count))
    baseline = statistics.median(rows["bare PUSH/PULL"])
    print(f"2 processes, (32, 10) float32 and labels, median of {arguments.runs} interleaved runs")
    print(f"{'':20} {'batches/s':>10} {'x bare':>8}")
    for name, rates in rows.items():
        rate = statistics.median(rates)
        print(f"{name:20} {rate:>10.0f} {rate / baseline:>8.2f}")
    print("bars: at 256 >= 100000 batches/s and >= 0.9 x bare; at 10 >= 25000 batches/s")


if __name__ == "__main__":
    main()
