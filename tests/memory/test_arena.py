"""The worker's blocks: found again when free, never while they are in use, and none where there is no memory."""

from __future__ import annotations

import mmap
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from enqueuer.memory import arena as arena_module
from enqueuer.memory.arena import PAGE, Arena, Block, aligned_offsets
from enqueuer.memory.segment import ALIGNMENT

MEGABYTE = 1_000_000


@pytest.fixture
def arena() -> Arena:
    return Arena(show)


def show(slab_id: bytes, fd: int) -> None:
    """What a trainer does with it, done here."""
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


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def end_use(block: Block) -> None:
    """As the trainer does it."""
    mapping, (_, offset, use) = SHOWN[block.ref.slab_id], block.ref
    assert int.from_bytes(mapping[offset : offset + 8], sys.byteorder) == use
    mapping[offset : offset + 8] = bytes(8)


def test_a_block_is_used_again_when_its_use_has_ended_and_not_before(arena: Arena) -> None:
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


def test_sizes_that_differ_little_share_their_blocks_and_waste_little(arena: Arena) -> None:
    block = take(arena, 38_535_168)
    end_use(block)
    assert take(arena, 38_000_000).ref[:2] == block.ref[:2]
    for nbytes in range(1, 50_000_000, 777_777):
        stride = arena_module._stride(nbytes)
        assert stride % PAGE == 0
        assert nbytes <= stride <= max(1.125 * nbytes, nbytes + PAGE)


def test_nobody_can_cut_a_slab_off_under_a_reader() -> None:
    def cut_off(_: bytes, fd: int) -> None:
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)

    take(Arena(cut_off), 100)


def test_there_is_no_block_where_there_is_no_memory_and_the_reason_is_said_once(
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
def test_a_block_leaves_an_eighth_of_all_memory_up_to_a_gibibyte_and_as_much_again_as_it_takes(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, total: int, free: float | None, expected: bool
) -> None:
    monkeypatch.setattr(arena_module, "total_bytes", lambda: total)
    monkeypatch.setattr(arena_module, "available_bytes", lambda: free)
    assert (arena.take(MEGABYTE - 4 * PAGE) is not None) == expected


def test_memory_is_looked_at_and_taken_under_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []
    lock = threading.Lock()

    def look() -> None:
        held.append(lock.locked())

    monkeypatch.setattr(arena_module, "available_bytes", look)
    take(Arena(show, lock), 100)  # type: ignore[arg-type]
    assert held == [True]
    assert not lock.locked()


def test_a_slab_that_cannot_be_made_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    before = open_fds()
    assert Arena(show).take(1000) is None
    SHOWN.clear()
    assert open_fds() == before


def test_a_size_that_gets_no_slab_leaves_the_others_their_blocks(caplog: pytest.LogCaptureFixture) -> None:
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


def test_what_is_not_needed_any_more_goes_back_to_the_system_and_comes_again(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert 5_000_000 <= arena.allocated_bytes < 6_000_000, "the one that is in use"
    held.contents[:5] = b"still"
    again = [take(arena, 5_000_000) for _ in range(7)]
    for block in again:
        assert block.contents[:100].tobytes() == bytes(100)
    assert held.contents[:5].tobytes() == b"still"


def test_what_the_trainer_does_not_take_is_not_used_and_it_is_asked_again_later() -> None:
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


def test_memory_goes_with_the_last_who_may_look_at_it() -> None:
    before = open_fds()
    arena = Arena(lambda *_: None)
    block = take(arena, 100)
    del arena
    block.contents[:4] = b"here"
    del block
    assert open_fds() == before


def test_both_ends_know_where_buffers_lie_by_their_sizes() -> None:
    assert aligned_offsets([]) == ([], 0)
    assert aligned_offsets([1, 64, 65, 0, 3]) == ([0, 64, 128, 256, 256], 320)
