import errno
import mmap
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from enqueuer.errors import ConfigurationError
from enqueuer.memory import segment
from enqueuer.memory.segment import ALIGNMENT, SharedSegment, map_segment, read_parts
from tests.support.leaks import open_descriptors

PARTS = [b"stream", memoryview(np.arange(3_000_001, dtype=np.uint8)), b"", b"x" * 65]


@pytest.fixture(params=["memfd", "file"])
def placed(request, monkeypatch):
    """Both kinds of segment: a memfd, and a file on systems without memfds."""
    if request.param == "memfd" and not segment.HAS_MEMFD:
        pytest.skip("this system has no memfd")
    monkeypatch.setattr(segment, "HAS_MEMFD", request.param == "memfd")
    return request.param


@pytest.fixture
def shared(placed, tmp_path):
    made = SharedSegment.create(PARTS, directory=tmp_path)
    yield made
    made.close()


def test_a_reader_sees_the_parts_each_aligned(shared):
    mapping = map_segment(shared.path)
    parts = read_parts(mapping)
    assert [part.tobytes() for part in parts] == [bytes(part) for part in PARTS]
    assert shared.sizes == (6, 3_000_001, 0, 65)
    assert len(mapping) == shared.nbytes
    base = np.frombuffer(mapping, np.uint8).ctypes.data
    assert [(np.frombuffer(part, np.uint8).ctypes.data - base) % ALIGNMENT for part in parts if part] == [0, 0, 0]


def test_another_process_can_map_a_segment(shared):
    code = (
        "import sys; from enqueuer.memory.segment import map_segment, read_parts;"
        "parts = read_parts(map_segment(sys.argv[1])); print(parts[0].tobytes().decode(), len(parts[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, shared.path], check=True, capture_output=True, text=True)
    assert done.stdout == "stream 3000001\n"


def test_a_readers_writes_are_private(shared):
    mine, other = (read_parts(map_segment(shared.path))[1] for _ in range(2))
    mine[0] = 99
    assert mine[0] == 99
    assert other[0] == 0
    assert shared.matches(PARTS)


def test_not_even_its_maker_can_change_a_sealed_segment(tmp_path):
    if not segment.HAS_MEMFD:
        pytest.skip("this system has no memfd")
    shared = SharedSegment.create(PARTS, directory=tmp_path)
    for change in (
        lambda: os.pwrite(shared._fd, b"y", 0),
        lambda: os.ftruncate(shared._fd, 1),
        lambda: mmap.mmap(shared._fd, 0),
    ):
        with pytest.raises(PermissionError):
            change()
    shared.close()


def test_a_segments_file_is_readable_by_its_owner_only(monkeypatch, tmp_path):
    monkeypatch.setattr(segment, "HAS_MEMFD", False)
    shared = SharedSegment.create(PARTS, directory=tmp_path)
    assert stat.S_IMODE(Path(shared.path).stat().st_mode) == 0o400
    shared.close()


def test_a_segment_matches_its_exact_contents_only(shared):
    assert shared.matches(PARTS)
    assert shared.matches([bytes(part) for part in PARTS])
    for ref in (0, 1_500_000, 3_000_000):
        changed = np.array(PARTS[1])
        changed[ref] ^= 1
        assert not shared.matches([PARTS[0], memoryview(changed), *PARTS[2:]])
    assert not shared.matches(PARTS[:-1])
    assert not shared.matches([*PARTS[:-1], b"x" * 64])
    assert not shared.matches([*PARTS, b""])


def test_arrays_of_any_type_and_order_are_parts(placed, tmp_path):
    arrays = [np.arange(12.0).reshape(3, 4), np.asfortranarray(np.arange(12.0).reshape(3, 4)), np.empty((0, 3))]
    shared = SharedSegment.create([memoryview(array) for array in arrays], directory=tmp_path)
    first, second, third = read_parts(map_segment(shared.path))
    assert np.frombuffer(first).reshape(3, 4).tolist() == arrays[0].tolist()
    assert np.frombuffer(second).reshape(3, 4, order="F").tolist() == arrays[1].tolist()
    assert third.nbytes == 0
    shared.close()


def test_a_segment_may_have_no_parts(placed, tmp_path):
    shared = SharedSegment.create([], directory=tmp_path)
    assert read_parts(map_segment(shared.path)) == []
    assert shared.matches([])
    shared.close()


def test_closing_twice_leaves_only_the_readers_mappings(placed, tmp_path):
    before = open_descriptors()
    shared = SharedSegment.create(PARTS, directory=tmp_path)
    parts = read_parts(map_segment(shared.path))
    assert shared.matches(PARTS)
    shared.close()
    shared.close()
    assert parts[0].tobytes() == b"stream"
    del parts
    assert not open_descriptors() - before
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError):
        map_segment(shared.path)


def test_a_forgotten_segment_closes_itself(placed, tmp_path):
    before = open_descriptors()
    SharedSegment.create(PARTS, directory=tmp_path)
    assert not open_descriptors() - before
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_does_not_remove_the_makers_file(monkeypatch, tmp_path):
    monkeypatch.setattr(segment, "HAS_MEMFD", False)
    shared = SharedSegment.create(PARTS, directory=tmp_path)
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -1)
        shared.close()
    assert Path(shared.path).exists()


def test_without_enough_memory_the_error_names_a_remedy(placed, tmp_path, monkeypatch):
    monkeypatch.setattr(segment, "available_bytes", lambda: 2_000_000)
    before = open_descriptors()
    with pytest.raises(ConfigurationError, match=r"no room for 3 MB .*2 MB are free.*use threads"):
        SharedSegment.create(PARTS, directory=tmp_path)
    assert not open_descriptors() - before


def test_a_full_disk_is_the_same_error_and_leaves_no_file(placed, tmp_path, monkeypatch):
    def full(fd, data, offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    before = open_descriptors()
    with pytest.raises(ConfigurationError, match="No space left on device"):
        SharedSegment.create(PARTS, directory=tmp_path)
    assert not open_descriptors() - before
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_while_a_segment_is_filled_leaves_no_file(placed, tmp_path, monkeypatch):
    def interrupted(fd, data, offset):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "pwrite", interrupted)
    before = open_descriptors()
    with pytest.raises(KeyboardInterrupt):
        SharedSegment.create(PARTS, directory=tmp_path)
    assert not open_descriptors() - before
    assert list(tmp_path.iterdir()) == []


def test_a_segment_is_made_where_free_memory_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(segment, "available_bytes", lambda: None)
    SharedSegment.create(PARTS, directory=tmp_path).close()


def test_large_parts_are_written_piece_by_piece(placed, tmp_path, monkeypatch):
    monkeypatch.setattr(segment, "_WRITE_BYTES", 1000)
    shared = SharedSegment.create([b"ab" * 5001], directory=tmp_path)
    assert read_parts(map_segment(shared.path))[0] == b"ab" * 5001
    shared.close()
