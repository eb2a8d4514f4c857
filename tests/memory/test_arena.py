"""A worker's blocks: reused when free, never while in use, and none when there is no memory."""

from __future__ import annotations

import mmap
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from enqueuer.memory import arena as arena_module
from enqueuer.memory.arena import PAGE, Arena, Block, aligned_offsets
from enqueuer.memory.segment import ALIGNMENT
from tests.support.leaks import open_descriptors

MEGABYTE = 1_000_000


@pytest.fixture
def arena() -> Arena:
    return Arena(show)


def show(slab_id: bytes, fd: int) -> None:
    """Map the slab as a trainer does."""
    SHOWN[slab_id] = mmap.mmap(fd, 0)


SHOWN: dict[bytes, mmap.mmap] = {}


@pytest.fixture(autouse=True)
def nothing_shown_before() -> Iterator[None]:
    yield
    SHOWN.clear()


def take(arena: Arena, nbytes: int) -> Block:
    block = arena.take(nbytes)
    assert block is not None
    assert len(block.contents) >= nbytes
    return block


def end_use(block: Block) -> None:
    """Free the block as a trainer does."""
    mapping, (_, offset, use) = SHOWN[block.ref.slab_id], block.ref
    assert int.from_bytes(mapping[offset : offset + 8], sys.byteorder) == use
    mapping[offset : offset + 8] = bytes(8)


def test_a_block_is_reused_after_its_use_has_ended_and_not_before(arena: Arena) -> None:
    first, second = take(arena, 100_000), take(arena, 100_000)
    assert first.ref.slab_id == second.ref.slab_id
    assert first.ref.offset != second.ref.offset
    end_use(first)
    third = take(arena, 99_000)
    assert third.ref[:2] == first.ref[:2]
    assert third.ref.use > second.ref.use > first.ref.use


def test_contents_are_aligned_and_do_not_overlap(arena: Arena) -> None:
    blocks = [take(arena, 50_000) for _ in range(300)]
    for number, block in enumerate(blocks):
        block.contents[:] = bytes([number % 256]) * len(block.contents)
    assert len({block.ref[:2] for block in blocks}) == 300
    for number, block in enumerate(blocks):
        assert set(bytes(block.contents)) == {number % 256}
        assert (block.ref.offset + ALIGNMENT) % ALIGNMENT == 0
    assert len({block.ref.slab_id for block in blocks}) == 1, "they share a slab"


def test_batches_of_similar_sizes_share_blocks_and_waste_little(arena: Arena) -> None:
    block = take(arena, 38_535_168)
    end_use(block)
    assert take(arena, 38_000_000).ref[:2] == block.ref[:2]
    for nbytes in range(1, 50_000_000, 777_777):
        stride = arena_module._stride(nbytes)
        assert stride % PAGE == 0
        assert nbytes <= stride <= max(1.125 * nbytes, nbytes + PAGE)


def test_a_slab_cannot_be_shrunk_under_a_reader() -> None:
    def shrink(_: bytes, fd: int) -> None:
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)

    take(Arena(shrink), 100)


def test_without_free_memory_take_returns_none_and_warns_once(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(arena_module, "available_bytes", lambda: 20_000_000)
    monkeypatch.setattr(arena_module, "total_bytes", lambda: 40_000_000)
    take(arena, 1_000_000)
    assert arena.take(15_000_000) is None
    assert arena.take(15_000_000) is None
    assert len(caplog.records) == 1
    assert "20 MB are free" in caplog.text
    assert arena.allocated_bytes < 2_000_000
    monkeypatch.setattr(arena_module, "_IDLE_SECONDS", 0.0)
    arena._full_until = 0.0
    take(arena, 1_000_000)


@pytest.mark.parametrize(
    ("total", "free", "expected"),
    [
        (1_000 * MEGABYTE, 127 * MEGABYTE, True),
        (1_000 * MEGABYTE, 125 * MEGABYTE, False),
        (1_000_000 * MEGABYTE, 1_075 * MEGABYTE, True),
        (1_000_000 * MEGABYTE, 1_074 * MEGABYTE, False),
        (MEGABYTE, 3 * MEGABYTE, True),
        (MEGABYTE, 1.5 * MEGABYTE, False),
        (1_000 * MEGABYTE, None, True),
    ],
)
def test_a_block_leaves_its_own_size_and_an_eighth_of_memory_free_up_to_a_gibibyte(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, total: int, free: float | None, expected: bool
) -> None:
    monkeypatch.setattr(arena_module, "total_bytes", lambda: total)
    monkeypatch.setattr(arena_module, "available_bytes", lambda: free)
    assert (arena.take(MEGABYTE - 4 * PAGE) is not None) == expected


def test_free_memory_is_checked_under_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []
    lock = threading.Lock()

    def look() -> None:
        held.append(lock.locked())

    monkeypatch.setattr(arena_module, "available_bytes", look)
    take(Arena(show, lock), 100)  # type: ignore[arg-type]
    assert held == [True]
    assert not lock.locked()


def test_a_slab_that_cannot_be_made_leaves_no_descriptor_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    before = open_descriptors()
    assert Arena(show).take(1000) is None
    SHOWN.clear()
    assert not open_descriptors() - before


def test_a_batch_size_without_a_slab_does_not_affect_other_sizes(caplog: pytest.LogCaptureFixture) -> None:
    refused = False

    def show_or_not(slab_id: bytes, fd: int) -> None:
        if refused:
            raise OSError("the trainer did not take the memory")
        show(slab_id, fd)

    arena = Arena(show_or_not)
    block = take(arena, 1000)
    end_use(block)
    refused = True
    for _ in range(3):
        assert arena.take(1_000_000) is None
        block = take(arena, 1000)
        end_use(block)
    assert caplog.text.count("no more shared memory") == 1


def test_idle_blocks_return_their_pages_and_can_be_taken_again(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena_module, "_IDLE_SECONDS", 0.0)
    monkeypatch.setattr(arena_module, "_SWEEP_SECONDS", 0.0)
    blocks = [take(arena, 5_000_000) for _ in range(8)]
    assert arena.allocated_bytes >= 40_000_000
    for block in blocks[1:]:
        end_use(block)
    used = take(arena, 100)
    for _ in range(2):
        end_use(used)
        used = take(arena, 100)
    held = blocks[0]
    assert 5_000_000 <= arena.allocated_bytes < 6_000_000, "only the block in use"
    held.contents[:5] = b"still"
    again = [take(arena, 5_000_000) for _ in range(7)]
    for block in again:
        assert block.contents[:100].tobytes() == bytes(100)
    assert held.contents[:5].tobytes() == b"still"


def test_a_slab_refused_by_the_trainer_is_not_used_and_another_is_shown_later() -> None:
    answers = [OSError("not now"), None]
    arena = Arena(lambda *_: refuse_or_not(answers.pop(0)))
    assert arena.take(1000) is None
    assert arena.take(1000) is None
    arena._full_until = 0.0
    assert arena.take(1000) is not None
    assert answers == []


def refuse_or_not(error: OSError | None) -> None:
    if error is not None:
        raise error


def test_a_slab_is_closed_with_the_last_reference_to_it() -> None:
    before = open_descriptors()
    arena = Arena(lambda *_: None)
    block = take(arena, 100)
    del arena
    block.contents[:4] = b"here"
    del block
    assert not open_descriptors() - before


def test_offsets_of_buffers_follow_from_their_sizes() -> None:
    assert aligned_offsets([]) == ([], 0)
    assert aligned_offsets([1, 64, 65, 0, 3]) == ([0, 64, 128, 256, 256], 320)
