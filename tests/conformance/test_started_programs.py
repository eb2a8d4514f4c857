"""Programs that ``__getitem__`` started end with their worker, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from itertools import islice

import pytest

from enqueuer import SequenceEnqueuer
from tests.conformance import sources_started_programs as sources
from tests.support.chaos import parent_of
from tests.support.leaks import alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="programs are found in /proc")

KINDS = [
    sources.start_program,
    sources.start_pipeline,
    sources.start_daemon,
    sources.start_without_environment,
    sources.start_process,
]
PROGRAM = """
import time
from enqueuer import SequenceEnqueuer
from tests.conformance import sources_started_programs as sources
enqueuer = SequenceEnqueuer(sources.Starting(sources.start_daemon), use_multiprocessing=True)
enqueuer.start(1, 1)
worker, started = next(enqueuer.get())
print(worker, *started, flush=True)
time.sleep(300)
"""


def await_end(pids: Iterable[int]) -> None:
    deadline = time.monotonic() + 20
    while left := alive(set(pids)):
        assert time.monotonic() < deadline, f"{left} still run"
        time.sleep(0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_programs_end_with_stop(kind: Callable[[], list[int]]) -> None:
    with SequenceEnqueuer(sources.Starting(kind), use_multiprocessing=True) as enqueuer:
        enqueuer.start(2)
        batches = list(islice(enqueuer.get(), 4))
    assert not alive({pid for _, started in batches for pid in started})


@pytest.mark.parametrize("kind", KINDS)
def test_programs_end_with_a_killed_worker_and_those_of_others_stay(kind: Callable[[], list[int]]) -> None:
    with SequenceEnqueuer(sources.Starting(kind), use_multiprocessing=True, prefetch_epochs=False) as enqueuer:
        enqueuer.start(2, 4)
        started: dict[int, list[int]] = {}
        stream = enqueuer.get()
        while len(started) < 2:
            worker, pids = next(stream)
            started.setdefault(worker, []).extend(pids)
        killed, other = started
        os.kill(killed, signal.SIGKILL)
        await_end(started[killed])
        others = {other, *started[other]}
        assert alive(others) == others
        next(stream)


def test_programs_end_with_a_recycled_worker() -> None:
    options = {"max_batches_per_worker": 1}
    sequence = sources.Starting(sources.start_daemon)
    with SequenceEnqueuer(sequence, use_multiprocessing=True, **options) as enqueuer:
        enqueuer.start(1, 1)
        stream = enqueuer.get()
        first, started = next(stream)
        while next(stream)[0] == first:
            pass
        await_end(started)


def test_programs_end_with_a_killed_supervisor() -> None:
    with SequenceEnqueuer(sources.Starting(sources.start_daemon), use_multiprocessing=True) as enqueuer:
        enqueuer.start(1, 1)
        stream = enqueuer.get()
        worker, started = next(stream)
        os.kill(parent_of(worker), signal.SIGKILL)
        await_end([worker, *started])
        next(stream)


def test_programs_end_with_a_killed_trainer() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        pids = [int(word) for word in trainer.stdout.readline().split()]
        trainer.kill()
    assert len(pids) == 2
    await_end(pids)
