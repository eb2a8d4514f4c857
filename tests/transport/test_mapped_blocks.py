"""The trainer's views: each block goes back when its last view has gone, once, and never while one is there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import numpy as np
import pytest

from enqueuer.transport.arena import PAGE, Arena, Block, BlockPlace
from enqueuer.transport.mapped_blocks import MappedBlocks

OWNER = b"w" * 16
SIZES = (300_000, 64)


@pytest.fixture
def gone() -> set[bytes]:
    return set()


@pytest.fixture
def mapped(gone: set[bytes]) -> Iterator[MappedBlocks]:
    made = MappedBlocks(gone.__contains__)
    yield made
    made.close()


@pytest.fixture
def arena() -> Arena:
    return Arena()


def take(arena: Arena, fill: int = 1) -> Block:
    block = arena.take(sum(SIZES) + 128)
    assert block is not None
    block.contents[: sum(SIZES) + 64] = bytes([fill]) * (sum(SIZES) + 64)
    return block


def is_in_use(block: Block) -> bool:
    return block._slab._words[block.place.offset // 8] == block.place.use


def test_the_views_are_the_workers_memory_writable_and_aligned(arena: Arena, mapped: MappedBlocks) -> None:
    block = take(arena, 7)
    views = mapped.open(OWNER, block.place, SIZES)
    assert [view.nbytes for view in views] == list(SIZES)
    arrays = [np.frombuffer(view, np.uint8) for view in views]
    for array in arrays:
        assert array.flags.writeable
        assert array.ctypes.data % 64 == 0
        assert (array == 7).all()
    arrays[1][:] = 9
    assert bytes(block.contents[300_032 : 300_032 + 64]) == bytes([9]) * 64


def test_a_block_goes_back_when_its_last_view_has_gone(arena: Arena, mapped: MappedBlocks) -> None:
    block = take(arena)
    views = mapped.open(OWNER, block.place, SIZES)
    array = np.frombuffer(views[0], np.float32).reshape(-1, 100)[3:5].T
    del views
    assert is_in_use(block), "a view of a view holds it"
    del array
    assert not is_in_use(block)
    assert take(arena).place[:3] == block.place[:3]


def test_a_message_that_comes_twice_does_not_return_what_the_first_one_holds(
    arena: Arena, mapped: MappedBlocks
) -> None:
    block = take(arena)
    first = mapped.open(OWNER, block.place, SIZES)
    second = mapped.open(OWNER, block.place, SIZES)
    del second
    assert is_in_use(block)
    second = mapped.open(OWNER, block.place, SIZES)
    del first
    assert is_in_use(block)
    del second
    assert not is_in_use(block)


def test_a_message_that_comes_again_after_the_block_went_back_returns_nobody_elses(
    arena: Arena, mapped: MappedBlocks
) -> None:
    old = take(arena)
    mapped.open(OWNER, old.place, SIZES)
    new = take(arena)
    assert new.place.offset == old.place.offset
    mapped.open(OWNER, old.place, SIZES)
    assert is_in_use(new)
    views = mapped.open(OWNER, new.place, SIZES)
    mapped.open(OWNER, old.place, SIZES)
    assert is_in_use(new)
    del views
    assert not is_in_use(new)


def test_what_is_in_use_when_the_process_forks_is_never_returned(arena: Arena, mapped: MappedBlocks) -> None:
    """The child may look at it for as long as it lives."""
    held, later = take(arena, 1), take(arena, 2)
    views = mapped.open(OWNER, held.place, SIZES)
    pid = os.fork()
    if pid == 0:
        del views
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert is_in_use(held)
    mapped.open(OWNER, held.place, SIZES)
    del views
    assert is_in_use(held)
    mapped.open(OWNER, later.place, SIZES)
    assert not is_in_use(later), "what came after is returned as ever"


def test_views_outlive_their_worker_and_its_record(arena: Arena, mapped: MappedBlocks, gone: set[bytes]) -> None:
    block = take(arena, 5)
    (view, _) = mapped.open(OWNER, block.place, SIZES)
    gone.add(OWNER)
    del block, arena
    other = Arena()
    mapped.open(b"x" * 16, take(other).place, SIZES)
    assert len(mapped._slabs) == 1
    assert (np.frombuffer(view, np.uint8) == 5).all()
    mapped.close()
    assert (np.frombuffer(view, np.uint8) == 5).all()


def changed(place: BlockPlace, **changes: object) -> BlockPlace:
    return place._replace(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("offset", [0, PAGE + 1, PAGE + 64, 1 << 40, (1 << 63) - PAGE])
def test_an_offset_that_is_no_blocks_is_refused(arena: Arena, mapped: MappedBlocks, offset: int) -> None:
    with pytest.raises(OSError, match="not within its slab"):
        mapped.open(OWNER, changed(take(arena).place, offset=offset), SIZES)


def test_more_than_the_slab_holds_is_refused(arena: Arena, mapped: MappedBlocks) -> None:
    with pytest.raises(OSError, match="not within its slab"):
        mapped.open(OWNER, take(arena).place, (300_000, 1 << 30))


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/proc/self/fd/3", "/proc/1/fd/../../../etc/passwd", "", "/proc/1/fd/1\n"]
)
def test_only_a_descriptor_of_a_process_is_opened(arena: Arena, mapped: MappedBlocks, path: str) -> None:
    with pytest.raises(OSError, match="no slab's name"):
        mapped.open(OWNER, changed(take(arena).place, path=path), SIZES)


def test_what_is_not_sealed_is_not_mapped(arena: Arena, mapped: MappedBlocks) -> None:
    """Such as another file, which has the number of a slab's descriptor by now."""
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 20)
        path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
        with pytest.raises(OSError, match=r"Invalid argument|not sealed"):
            mapped.open(OWNER, changed(take(arena).place, path=path), SIZES)
    fd = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, 1 << 20)
        with pytest.raises(OSError, match="not sealed"):
            mapped.open(OWNER, changed(take(arena).place, path=f"/proc/{os.getpid()}/fd/{fd}"), SIZES)
    finally:
        os.close(fd)


def test_another_slab_under_that_name_is_noticed(arena: Arena, mapped: MappedBlocks) -> None:
    with pytest.raises(OSError, match="not the one"):
        mapped.open(OWNER, changed(take(arena).place, slab_id=b"?" * 16), SIZES)
