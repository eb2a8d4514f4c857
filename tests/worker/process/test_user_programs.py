"""A worker's own use of `multiprocessing`: blocks that it attaches outlive it, blocks that it creates do not."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing.shared_memory import ShareableList, SharedMemory
from pathlib import Path

import pytest

from tests.support.scripts import run_command

SET_UP = """
import sys
from enqueuer_worker.process.user_programs import prepare_for_user_programs
EARLY
prepare_for_user_programs()
from multiprocessing.shared_memory import ShareableList, SharedMemory
"""
EARLY = ["", "import multiprocessing.shared_memory, multiprocessing.reduction"]


@pytest.fixture
def block() -> Iterator[SharedMemory]:
    made = SharedMemory(create=True, size=64)
    made.buf[:3] = b"abc"
    yield made
    made.close()
    made.unlink()


def is_there(name: str) -> bool:
    try:
        SharedMemory(name).close()
    except FileNotFoundError:
        return False
    return True


@pytest.mark.parametrize("early", EARLY)
def test_a_block_that_a_process_attached_outlives_it(tmp_path: Path, block: SharedMemory, early: str) -> None:
    source = SET_UP.replace("EARLY", early) + f"block = SharedMemory({block.name!r})\nprint(bytes(block.buf[:3]))"
    assert run_command(source, tmp_path) == "b'abc'\n"
    assert is_there(block.name)


def test_a_block_that_was_attached_twice_outlives_the_process(tmp_path: Path, block: SharedMemory) -> None:
    source = (
        SET_UP.replace("EARLY", "")
        + f"""
one, two = (SharedMemory({block.name!r}) for _ in range(2))
print(bytes(one.buf[:1]) + bytes(two.buf[1:2]))
one.close(); two.close()
"""
    )
    assert run_command(source, tmp_path) == "b'ab'\n"
    assert is_there(block.name)


def test_a_shareable_list_outlives_a_process_that_read_it(tmp_path: Path) -> None:
    numbers = ShareableList([1, 2, 3])
    try:
        source = (
            SET_UP.replace("EARLY", "") + f"numbers = ShareableList(name={numbers.shm.name!r})\nprint(sum(numbers))"
        )
        assert run_command(source, tmp_path) == "6\n"
        assert is_there(numbers.shm.name)
    finally:
        numbers.shm.close()
        numbers.shm.unlink()


def test_a_block_that_a_process_created_ends_with_it(tmp_path: Path) -> None:
    source = (
        SET_UP.replace("EARLY", "")
        + """
made = SharedMemory(create=True, size=8)
again = SharedMemory(made.name)
print(made.name)
"""
    )
    assert not is_there(run_command(source, tmp_path).strip())


def test_a_block_that_a_process_created_and_removed_is_no_leak(tmp_path: Path) -> None:
    source = (
        SET_UP.replace("EARLY", "")
        + """
made = SharedMemory(create=True, size=8)
again = SharedMemory(made.name)
again.close(); made.close(); made.unlink()
print("done")
"""
    )
    assert run_command(source, tmp_path) == "done\n"


def test_a_worker_does_not_import_multiprocessing_for_this(tmp_path: Path) -> None:
    source = """
import sys
from enqueuer_worker.process.user_programs import prepare_for_user_programs
prepare_for_user_programs()
print([name for name in sys.modules if name.startswith("multiprocessing")])
"""
    assert run_command(source, tmp_path) == "[]\n"
