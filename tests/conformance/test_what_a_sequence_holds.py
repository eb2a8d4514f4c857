"""Sequences that hold what ordinary pickling copies, loses or refuses: mapped files, shared memory, wrappers."""

from __future__ import annotations

import multiprocessing
import os
import sys
from itertools import islice
from multiprocessing.shared_memory import ShareableList, SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer import SequenceEnqueuer
from enqueuer.errors import ConfigurationError
from tests.conformance.sources_held import Accommodating, AttachesByName, Frame, Holds, HoldsBlock, Mapped
from tests.support.leaks import alive, descendants
from tests.support.placement import Placement, take
from tests.support.scripts import run_script
from tests.support.waiting import wait_until

MAPPED = """
import sys
from enqueuer import SequenceEnqueuer
from tests.conformance.sources_held import Mapped, status_mb

def run(path):
    with SequenceEnqueuer(Mapped(path), True) as enq:
        enq.start(2, 2)
        stream = enq.get()
        batches = [next(stream) for _ in range(8)]
    assert [int(batch[0]) for batch in batches] == [50, 51, 52, 53] * 2
    return max(float(batch[1]) for batch in batches)

run(sys.argv[1])
small, before = run(sys.argv[1]), status_mb("VmHWM")
print(run(sys.argv[2]) - small, status_mb("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_mapped_file_is_neither_in_the_trainers_nor_in_a_workers_memory(tmp_path: Path) -> None:
    for name, nbytes in (("small", 1 << 16), ("large", 96 << 20)):
        with (tmp_path / name).open("wb") as file:
            file.write(bytes(range(50, 60)))
            file.truncate(nbytes)
    arguments = [str(tmp_path / "small"), str(tmp_path / "large")]
    worker, trainer = map(float, run_script(MAPPED, tmp_path, arguments, timeout=45).split())
    assert max(worker, trainer) < 24, f"{worker:.0f} MB in a worker, {trainer:.0f} MB in the trainer, of 96 MB"


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what a mapping is of")
def test_a_mapped_file_that_is_gone_is_named_before_the_first_batch(tmp_path: Path) -> None:
    np.zeros(100, np.uint8).tofile(tmp_path / "plates")
    sequence = Mapped(str(tmp_path / "plates"))
    (tmp_path / "plates").unlink()
    with SequenceEnqueuer(sequence, True) as enq, pytest.raises(ConfigurationError, match=r"plates.*deleted"):
        enq.start(1)
        next(enq.get())


@pytest.mark.parametrize("holds", ["object", "name"])
def test_a_block_of_shared_memory_outlives_the_workers_that_read_it(holds: str) -> None:
    block = SharedMemory(create=True, size=64)
    try:
        block.buf[:4] = b"\x05\x06\x07\x08"
        sequence: Any = HoldsBlock(block) if holds == "object" else AttachesByName(block.name)
        for _ in range(2):
            assert _batches_of_ended_workers(sequence, 4) == [5, 6, 7, 8]
        assert SharedMemory(block.name).buf is not None
    finally:
        block.close()
        block.unlink()


def test_a_shareable_list_outlives_the_workers_that_read_it() -> None:
    numbers = ShareableList([5, 6, 7, 8])
    try:
        assert _batches_of_ended_workers(numbers, 4) == [5, 6, 7, 8]
        assert SharedMemory(numbers.shm.name).size == numbers.shm.size
    finally:
        numbers.shm.close()
        numbers.shm.unlink()


def _batches_of_ended_workers(sequence: Any, count: int) -> list[Any]:
    """The batches of two workers that have ended, with all that they started."""
    before = descendants(os.getpid())
    with SequenceEnqueuer(sequence, True) as enq:
        enq.start(2, 2)
        batches = list(islice(enq.get(), count))
        pids = descendants(os.getpid()) - before
    wait_until(lambda: not alive(pids), what="the end of all processes")
    return batches


def test_a_write_to_an_array_is_seen_in_its_slice(live_placement: Placement) -> None:
    batches = take(live_placement.running(Frame(), workers=1).get(), 6)
    assert batches == [[index, index] for index in (0.0, 1.0, 2.0)] * 2


@pytest.mark.parametrize("make", [lambda: multiprocessing.Value("i"), multiprocessing.Lock, multiprocessing.Queue])
def test_what_processes_share_is_refused_by_start_with_its_name(processes: Placement, make: Any) -> None:
    part = make()
    with pytest.raises(ConfigurationError, match=rf"Holds\.part, a {type(part).__name__}\. .*Manager") as caught:
        processes.running(Holds(part))
    assert "SequenceSpec" not in str(caught.value)


def test_an_attribute_that_is_there_and_is_none_is_no_method(live_placement: Placement) -> None:
    batches = take(live_placement.running(Accommodating(), workers=1).get(), 5)
    assert [(batch.shape, int(batch[0, 0])) for batch in batches] == [((64, 256), 3 * index) for index in range(5)]


WRAPPED = """
from enqueuer import SequenceEnqueuer

class Doubled:
    def __init__(self, inner):
        self.inner = inner
    def __getattr__(self, name):
        return getattr(self.inner, name)
    def __len__(self):
        return len(self.inner)
    def __getitem__(self, index):
        return 2 * self.inner[index]

with SequenceEnqueuer(Doubled(Doubled([4, 5, 6])), USE_PROCESSES) as enq:
    enq.start(1)
    stream = enq.get()
    print([next(stream) for _ in range(6)])
"""


@pytest.mark.parametrize("use_processes", ["False", "True"])
def test_wrappers_that_pass_every_question_on_are_computed(tmp_path: Path, use_processes: str) -> None:
    assert run_script(WRAPPED.replace("USE_PROCESSES", use_processes), tmp_path) == f"{[16, 20, 24] * 2}\n"
