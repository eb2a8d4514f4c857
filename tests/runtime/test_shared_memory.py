"""Batches of local processes in shared memory, from end to end: correct for as long as they are held."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from enqueuer import SequenceEnqueuer, SequenceSpec
from enqueuer.memory import mapped_blocks
from tests.support.remote import RemoteWorker, free_address
from tests.support.waiting import wait_until

PIXELS = 60_000


class Reused:
    """Returns the same array each time, as a Sequence may, so the library must copy it."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._array = np.empty(PIXELS, np.int32)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        self._array[:] = index
        return self._array, index


def assert_is(batch: tuple[np.ndarray, int], index: int) -> None:
    array, own_index = batch
    assert own_index == index
    assert array.flags.writeable and array.flags.aligned and array.ctypes.data % 64 == 0
    assert (array == index).all()


def slabs_of(enqueuer: SequenceEnqueuer) -> int:
    session = enqueuer._session
    assert session is not None
    return sum(
        len(channel.slabs.blocks._slabs) for channel in session.io._channels.values() if channel.slabs is not None
    )


def test_thousands_of_batches_held_dropped_and_written_to_are_each_their_own() -> None:
    length = 3000
    with SequenceEnqueuer(Reused(length), use_multiprocessing=True) as enqueuer:
        enqueuer.start(workers=2, max_queue_size=10)
        held: dict[int, tuple[np.ndarray, int]] = {}
        for index, batch in enumerate(enqueuer.epoch()):
            assert_is(batch, index)
            if index % 7 == 0:
                held[index] = batch
            elif index % 5 == 0:
                batch[0][:] = -1  # they are the consumer's to write to
            if len(held) > 60:
                old, kept = held.popitem() if index % 2 else (next(iter(held)), held.pop(next(iter(held))))
                assert_is(kept, old)
        assert 1 <= slabs_of(enqueuer) <= 2
    for index, batch in held.items():
        assert_is(batch, index)


def test_batches_outlive_their_dead_worker_and_its_successor_goes_on() -> None:
    with SequenceEnqueuer(Reused(400), use_multiprocessing=True) as enqueuer:
        enqueuer.start(workers=1)
        batches = enqueuer.epoch()
        held = [next(batches) for _ in range(50)]
        for _ in range(3):
            os.kill(enqueuer.stats().workers[0].pid, signal.SIGKILL)
            held += [next(batches) for _ in range(50)]
        for index, batch in enumerate([*held, *batches]):
            assert_is(batch, index)
    assert len(held) == 200


def test_batches_that_cannot_be_mapped_come_through_the_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mapped_blocks, "_LARGEST_SLAB_BYTES", 0)
    with SequenceEnqueuer(Reused(100), use_multiprocessing=True) as enqueuer:
        enqueuer.start(workers=2)
        for index, batch in enumerate(enqueuer.epoch()):
            assert_is(batch, index)
        assert slabs_of(enqueuer) == 0


def test_a_worker_that_was_started_by_itself_on_this_host_shares_its_memory_too(tmp_path: Path) -> None:
    spec = SequenceSpec("tests.runtime.test_shared_memory:Reused", length=200)
    with SequenceEnqueuer(spec, bind="tcp://127.0.0.1:*", min_workers=2) as enqueuer:
        enqueuer.start(workers=0)
        assert enqueuer.endpoint is not None
        with RemoteWorker(enqueuer.endpoint, tmp_path / "worker.log"):
            for index, batch in enumerate(enqueuer.epoch()):
                assert_is(batch, index)
            assert slabs_of(enqueuer) == 2
        meeting_points = [channel.slabs.path for channel in enqueuer._session.io._channels.values()]
        assert all(path.is_socket() for path in meeting_points)
    assert not any(path.exists() for path in meeting_points)


def test_the_memory_of_a_dead_worker_is_freed_without_a_successor(tmp_path: Path) -> None:
    spec = SequenceSpec("tests.runtime.test_shared_memory:Reused", length=1_000_000)
    with SequenceEnqueuer(spec, use_multiprocessing=True, bind="tcp://127.0.0.1:*", min_workers=2) as enqueuer:
        enqueuer.start(workers=1)
        assert enqueuer.endpoint is not None
        with RemoteWorker(enqueuer.endpoint, tmp_path / "worker.log", processes=1) as remote:
            batches = enqueuer.epoch()
            wait_until(lambda: next(batches) is not None and slabs_of(enqueuer) == 2, what="both to share memory")
            os.kill(remote.pid, signal.SIGKILL)  # its child dies with it
            wait_until(lambda: next(batches) is not None and slabs_of(enqueuer) == 1, what="one to share memory")


def test_a_worker_that_waits_for_the_next_trainer_keeps_no_memory_of_the_last_one(tmp_path: Path) -> None:
    spec = SequenceSpec("tests.runtime.test_shared_memory:Reused", length=100)
    address = free_address()
    with RemoteWorker(address, tmp_path / "worker.log", processes=1):
        for _ in range(2):
            with SequenceEnqueuer(spec, bind=address) as enqueuer:
                enqueuer.start(workers=0)
                for index, batch in enumerate(enqueuer.epoch()):
                    assert_is(batch, index)
                pid = enqueuer.stats().workers[0].pid
                assert _mappings(pid) == 1
            wait_until(lambda pid=pid: _mappings(pid) == 0, what="the worker's arena to go")


class Filling(Reused):
    """Writes other batches with ``getitem_into`` than it returns, to tell the two apart."""

    def getitem_into(self, index: int, out: tuple[np.ndarray, np.ndarray]) -> None:
        out[0][:] = -index
        out[1][:] = index

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return super().__getitem__(index)[0], np.array([index])


def test_a_sequence_may_fill_the_shared_memory_itself() -> None:
    with SequenceEnqueuer(Filling(300), use_multiprocessing=True) as enqueuer:
        enqueuer.start(workers=2)
        held = list(enqueuer.epoch())
        assert [int(own_index[0]) for _, own_index in held] == list(range(300))
        assert all(abs(array[0]) == index and (array == array[0]).all() for index, (array, _) in enumerate(held))
        assert sum(array[0] > 0 for array, _ in held) <= 2, "each worker's first"


def test_without_shared_memory_getitem_into_is_not_called() -> None:
    with SequenceEnqueuer(Filling(30), use_multiprocessing=True, shared_memory=False) as enqueuer:
        enqueuer.start(workers=2)
        assert [array[0] for array, _ in enqueuer.epoch()] == list(range(30))


def test_shared_memory_can_be_turned_off() -> None:
    with SequenceEnqueuer(Reused(30), use_multiprocessing=True, shared_memory=False) as enqueuer:
        enqueuer.start(workers=2)
        for index, batch in enumerate(enqueuer.epoch()):
            assert_is(batch, index)
        assert slabs_of(enqueuer) == 0


def test_a_child_of_the_trainer_may_look_at_a_batch_after_the_trainer_dropped_it() -> None:
    with SequenceEnqueuer(Reused(500), use_multiprocessing=True) as enqueuer:
        enqueuer.start(workers=1)
        batches = enqueuer.epoch()
        batch = next(batches)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(writer)
            os.read(reader, 1)  # until the trainer has taken all the others
            os._exit(0 if (batch[0] == 0).all() else 1)
        os.close(reader)
        del batch
        for index, other in enumerate(batches, 1):
            assert_is(other, index)
        os.close(writer)
        assert os.waitpid(pid, 0)[1] == 0


def test_a_stopped_enqueuers_batches_stay_and_its_memory_goes_with_the_last_of_them() -> None:
    gc.collect()
    before = _mappings()
    enqueuer = SequenceEnqueuer(Reused(20), use_multiprocessing=True)
    enqueuer.start(workers=1)
    held = list(enqueuer.epoch())
    enqueuer.stop()
    for index, batch in enumerate(held):
        assert_is(batch, index)
    assert _mappings() > before
    held.clear()
    batch = None
    wait_until(lambda: _mappings() <= before, what="no mapping of a slab")


def _mappings(pid: int | str = "self") -> int:
    return Path(f"/proc/{pid}/maps").read_text().count("enqueuer-batches")
