"""The trainer's views: each block is returned after its last view, once, and never before."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from enqueuer.memory.arena import PAGE, Arena, Block, BlockRef
from enqueuer.memory.mapped_blocks import MappedBlocks

OWNER = b"w" * 16
SIZES = (300_000, 64)


@pytest.fixture
def mapped() -> Iterator[MappedBlocks]:
    made = MappedBlocks()
    yield made
    made.close()


@pytest.fixture
def arena(mapped: MappedBlocks) -> Arena:
    return Arena(partial(mapped.add, OWNER))


def take(arena: Arena, fill: int = 1) -> Block:
    block = arena.take(sum(SIZES) + 128)
    assert block is not None
    block.contents[: sum(SIZES) + 64] = bytes([fill]) * (sum(SIZES) + 64)
    return block


def opened(mapped: MappedBlocks, ref: BlockRef, sizes: tuple[int, ...] = SIZES) -> list[memoryview]:
    (views,) = mapped.open(OWNER, [(ref, sizes)])
    return views


def is_in_use(block: Block) -> bool:
    return block._slab._words[block.ref.offset // 8] == block.ref.use


def test_views_are_the_workers_memory_writable_and_aligned(arena: Arena, mapped: MappedBlocks) -> None:
    block = take(arena, 7)
    views = opened(mapped, block.ref)
    assert [view.nbytes for view in views] == list(SIZES)
    arrays = [np.frombuffer(view, np.uint8) for view in views]
    for array in arrays:
        assert array.flags.writeable
        assert array.ctypes.data % 64 == 0
        assert (array == 7).all()
    arrays[1][:] = 9
    assert bytes(block.contents[300_032 : 300_032 + 64]) == bytes([9]) * 64


def test_a_block_is_returned_after_its_last_view(arena: Arena, mapped: MappedBlocks) -> None:
    block = take(arena)
    views = opened(mapped, block.ref)
    array = np.frombuffer(views[0], np.float32).reshape(-1, 100)[3:5].T
    del views
    assert is_in_use(block), "a view of a view holds it"
    del array
    assert not is_in_use(block)
    assert take(arena).ref[:2] == block.ref[:2]


def test_views_of_a_repeated_message_share_the_first_ones_use(arena: Arena, mapped: MappedBlocks) -> None:
    block = take(arena)
    first = opened(mapped, block.ref)
    second = opened(mapped, block.ref)
    del second
    assert is_in_use(block)
    second = opened(mapped, block.ref)
    del first
    assert is_in_use(block)
    del second
    assert not is_in_use(block)


def test_a_message_repeated_after_the_return_does_not_return_the_next_use(arena: Arena, mapped: MappedBlocks) -> None:
    old = take(arena)
    opened(mapped, old.ref)
    new = take(arena)
    assert new.ref.offset == old.ref.offset
    opened(mapped, old.ref)
    assert is_in_use(new)
    views = opened(mapped, new.ref)
    opened(mapped, old.ref)
    assert is_in_use(new)
    del views
    assert not is_in_use(new)


def test_if_one_block_of_a_message_is_unknown_none_is_opened_and_returned(arena: Arena, mapped: MappedBlocks) -> None:
    """The worker sends all of them again, so their contents must not be overwritten."""
    there, missing = take(arena), take(arena)
    wanted = [(there.ref, SIZES), (missing.ref._replace(slab_id=b"z" * 16), SIZES)]
    with pytest.raises(OSError, match="never showed"):
        mapped.open(OWNER, wanted)
    assert is_in_use(there)


def test_a_block_in_use_at_a_fork_is_never_returned(arena: Arena, mapped: MappedBlocks) -> None:
    """The child may read it for as long as it lives."""
    held, later = take(arena, 1), take(arena, 2)
    views = opened(mapped, held.ref)
    pid = os.fork()
    if pid == 0:
        del views
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert is_in_use(held)
    opened(mapped, held.ref)
    del views
    assert is_in_use(held)
    opened(mapped, later.ref)
    assert not is_in_use(later), "a block opened after the fork is returned"


def test_views_outlive_their_worker_and_its_slab(arena: Arena, mapped: MappedBlocks) -> None:
    block = take(arena, 5)
    (view, _) = opened(mapped, block.ref)
    mapped.forget({b"another"})
    assert len(mapped._slabs) == 1
    mapped.forget({OWNER})
    assert len(mapped._slabs) == 0
    with pytest.raises(OSError, match="never showed"):
        opened(mapped, block.ref)
    del block, arena
    assert (np.frombuffer(view, np.uint8) == 5).all()


def changed(ref: BlockRef, **changes: object) -> BlockRef:
    return ref._replace(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("offset", [1, 64, PAGE + 64, 1 << 40, (1 << 63) - PAGE])
def test_an_offset_that_is_not_a_blocks_is_refused(arena: Arena, mapped: MappedBlocks, offset: int) -> None:
    with pytest.raises(OSError, match="not within its slab"):
        opened(mapped, changed(take(arena).ref, offset=offset))


def test_a_batch_beyond_the_slabs_end_is_refused(arena: Arena, mapped: MappedBlocks) -> None:
    with pytest.raises(OSError, match="not within its slab"):
        opened(mapped, take(arena).ref, (300_000, 1 << 30))


def test_a_worker_cannot_name_another_workers_slab(arena: Arena, mapped: MappedBlocks) -> None:
    ref = take(arena).ref
    with pytest.raises(OSError, match="never showed"):
        mapped.open(b"x" * 16, [(ref, SIZES)])
    with pytest.raises(OSError, match="exists already"):
        mapped.add(b"x" * 16, ref.slab_id, 0)


def test_a_file_that_could_shrink_is_not_mapped(mapped: MappedBlocks) -> None:
    with tempfile.TemporaryFile() as file, pytest.raises(OSError, match=r"Invalid argument|not sealed"):
        file.truncate(1 << 20)
        mapped.add(OWNER, b"s" * 16, file.fileno())
    fd = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, 1 << 20)
        with pytest.raises(OSError, match="not sealed"):
            mapped.add(OWNER, b"s" * 16, fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("nbytes", [0, 100, PAGE + 8])
def test_a_file_without_whole_pages_is_not_mapped(mapped: MappedBlocks, nbytes: int) -> None:
    fd = os.memfd_create("odd", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, nbytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        with pytest.raises(OSError, match="whole pages"):
            mapped.add(OWNER, b"s" * 16, fd)
    finally:
        os.close(fd)


@pytest.mark.skipif(not hasattr(os, "MFD_HUGETLB"), reason="this system has no huge pages")
def test_huge_pages_are_not_mapped_since_they_may_run_out() -> None:
    try:
        fd = os.memfd_create("huge", os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
    except OSError as error:
        pytest.skip(f"no huge pages here: {error}")
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        with pytest.raises(OSError, match="huge pages"):
            MappedBlocks().add(OWNER, b"s" * 16, fd)
    finally:
        os.close(fd)
