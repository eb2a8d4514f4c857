"""What `enqueuer top` costs: `python -m tests.benchmarks.top_cost [--workers 1000] [--seconds 30]`.

Processor time of the program, the start and the first round of pages left out, in terminals of three sizes:

- **trainer**: beside a real trainer with a fleet of workers on the wire (`fake_fleet.py`), over TCP. The trainer's
  allowance bounds how many workers come in a second.
- **all rows**: each worker has a new row each second, which is more than a trainer answers.

The bar is a fifth of a core.
"""

from __future__ import annotations

import argparse
import os
import pty
import random
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

from enqueuer import SequenceEnqueuer, SequenceSpec
from enqueuer.protocol.messages import MOST_ROWS
from enqueuer.protocol.observation import Snapshot
from tests.support.recorded import recorded_pages
from tests.support.remote import REPOSITORY, environment

_SIZES = ((80, 24), (120, 40), (200, 60))
_WARM_UP_SECONDS = 12.0
_PACE_SECONDS = 2.0
_FLEET_SECONDS = 180.0
_BAR = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--show", action="store_true", help="be the program with new rows each second")
    arguments = parser.parse_args()
    if arguments.show:
        show_all_rows(arguments.workers)
        return
    print(f"{arguments.workers} workers; the bar is {_BAR:.0%} of a core")
    here = [sys.executable, "-m", "tests.benchmarks.top_cost", "--show", "--workers", str(arguments.workers)]
    for size in _SIZES:
        print(f"all rows  {size[0]} x {size[1]}: {share(here, size, arguments.seconds):.1%}", flush=True)
    with trainer(arguments.workers) as endpoint:
        for size in _SIZES:
            used = share([sys.executable, "-m", "enqueuer", "top", endpoint], size, arguments.seconds)
            print(f"trainer   {size[0]} x {size[1]}: {used:.1%}", flush=True)


def share(command: list[str], size: tuple[int, int], seconds: float) -> float:
    """The part of a core that the program uses in a terminal of this size."""
    controller, terminal = pty.openpty()
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    variables = {**environment(), "TERM": "xterm-256color"}
    program = subprocess.Popen(command, cwd=REPOSITORY, env=variables, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    reading = threading.Thread(target=_drain, args=(controller,))
    reading.start()
    try:
        time.sleep(_WARM_UP_SECONDS)
        before, began = cpu_seconds(program.pid), time.monotonic()
        time.sleep(seconds)
        return (cpu_seconds(program.pid) - before) / (time.monotonic() - began)
    finally:
        program.kill()
        program.wait()
        reading.join()
        os.close(controller)


def _drain(controller: int) -> None:
    try:
        while os.read(controller, 65_536):
            pass
    except OSError:
        pass  # the program has ended


def cpu_seconds(pid: int) -> float:
    """The processor time of the process until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def trainer(workers_count: int) -> Iterator[str]:
    """The address of a trainer with such a fleet."""
    spec = SequenceSpec("tests.benchmarks.sequences:Small", length=10_000_000)
    with SequenceEnqueuer(spec, bind="tcp://127.0.0.1:*", min_workers=workers_count, seed=0) as enqueuer:
        enqueuer.start(0, 2 * workers_count)
        assert enqueuer.endpoint is not None
        fleet = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.benchmarks.fake_fleet", enqueuer.endpoint),
                *("--workers", str(workers_count), "--batches", "1", "--pace", str(_PACE_SECONDS)),
            ],
            cwd=REPOSITORY,
            env=environment(),
        )
        is_over = threading.Event()

        def train() -> None:
            for _ in enqueuer.get():
                if is_over.is_set():
                    return

        training = threading.Thread(target=train)
        training.start()
        try:
            enqueuer.wait_for_workers(workers_count, _FLEET_SECONDS)
            yield enqueuer.endpoint
        finally:
            is_over.set()
            training.join()
            enqueuer.stop()
            fleet.kill()
            fleet.wait()


def show_all_rows(workers_count: int) -> None:
    """Run the program with new rows of all workers each second."""
    from enqueuer.top.app import Page, TopApp

    app = TopApp()

    def post() -> None:
        for snapshot in _snapshots(workers_count):
            app.post_message(Page(snapshot))
            if snapshot.first_row == 0:
                time.sleep(1.0)

    threading.Thread(target=post, daemon=True).start()
    app.run()


def _snapshots(workers_count: int) -> Iterator[Snapshot]:
    """Pages without end, with other figures in each round."""
    made, last = random.Random(0), recorded_pages()[-1]
    row, second = last.rows[0], 0.0
    while True:
        second += 1.0
        for first in range(0, workers_count, MOST_ROWS):
            numbers = range(first, min(first + MOST_ROWS, workers_count))
            yield last._replace(
                elapsed_seconds=second,
                batches_total=int(500 * second * made.uniform(0.99, 1.01)),
                ready_count=made.randrange(12),
                events=(),
                first_row=first,
                rows_total=workers_count,
                rows=tuple(
                    row._replace(
                        worker_id=f"data-worker-{number // 16:03}-{number % 16}",
                        host=f"data-worker-{number // 16:03}",
                        batches_count=int(second * made.uniform(40, 50)),
                        item_seconds_p50=made.uniform(0.02, 0.03),
                        computing=(3, made.randrange(10_000), made.uniform(0.0, 0.05)),
                    )
                    for number in numbers
                ),
            )


if __name__ == "__main__":
    main()
