"""Buffers return to the pool after their last view, are never shared before that, and do not pile up."""

from __future__ import annotations

import mmap
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from enqueuer.memory import buffer_pool
from enqueuer.memory.buffer_pool import BufferPool

MEGABYTE = 1 << 20


def address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)


@pytest.fixture
def pool() -> BufferPool:
    return BufferPool()


def test_a_buffer_is_reused_after_its_last_view(pool: BufferPool) -> None:
    view = pool.take(MEGABYTE - 5)
    ref = address(view)
    assert view.nbytes == MEGABYTE - 5
    assert not view.readonly
    assert ref % mmap.PAGESIZE == 0
    part = np.frombuffer(view, np.uint8)[17:].reshape(2, -1)[1]
    del view
    assert address(pool.take(MEGABYTE - 5)) != ref, "a view of a part is left"
    del part
    assert ref in {address(view) for view in [pool.take(MEGABYTE) for _ in range(2)]}


def test_only_a_few_free_buffers_of_a_size_are_kept(pool: BufferPool) -> None:
    views = [pool.take(MEGABYTE) for _ in range(20)]
    assert len({address(view) for view in views}) == 20
    views.clear()
    assert pool._free_bytes == buffer_pool._FREE_OF_A_SIZE * MEGABYTE


def test_unused_sizes_make_room_for_others(pool: BufferPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer_pool, "_FREE_BYTES", 10 * MEGABYTE)
    for size in range(1, 12):
        views = [pool.take(size * MEGABYTE) for _ in range(2)]
        views.clear()
        assert pool._free_bytes <= 11 * MEGABYTE
    ref = address(pool.take(11 * MEGABYTE))
    assert address(pool.take(11 * MEGABYTE)) == ref


def test_clear_frees_unused_buffers_only(pool: BufferPool) -> None:
    held = pool.take(MEGABYTE)
    pool.take(MEGABYTE)
    pool.clear()
    assert pool._free_bytes == 0
    held[:3] = b"abc"


def test_a_forked_child_keeps_its_contents_when_the_parent_refills_the_buffer(pool: BufferPool) -> None:
    view = pool.take(MEGABYTE)
    view[:3] = b"old"
    ref = address(view)
    filled_reader, filled_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(filled_writer)
        os.read(filled_reader, 1)
        os._exit(0 if view[:3] == b"old" else 1)
    os.close(filled_reader)
    del view
    again = pool.take(MEGABYTE)
    assert address(again) == ref
    again[:3] = b"new"
    os.close(filled_writer)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_buffer_that_does_not_fit_into_memory_raises_memory_error(pool: BufferPool) -> None:
    with pytest.raises(MemoryError, match="no memory for a buffer of"):
        pool.take(1 << 60)


def test_threads_never_get_the_same_buffer_at_once(pool: BufferPool) -> None:
    def fill(number: int) -> bool:
        for _ in range(300):
            array = np.frombuffer(pool.take(50_000), np.uint8)
            array[:] = number
            if not (array == number).all():
                return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(fill, range(8)))
