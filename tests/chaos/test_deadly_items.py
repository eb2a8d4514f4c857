"""Items that end their process: by a crash, an exit, or the kernel when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from enqueuer import PoisonedBatchError
from tests.support.chaos import Chaos
from tests.support.chaos_cgroup import MemoryGroup
from tests.support.chaos_sequences import Faulty
from tests.support.journal import Journal

RecordGap = Callable[[str, float], None]

POISONED = "the same batch kills worker after worker (out of memory, a segfault)"
_LONGEST_GAP = 11.0
_LIMIT_BYTES = 300 << 20
_FOR_EVER = 1000

places = pytest.mark.parametrize(("local", "remote"), [(2, 0), (0, 2)], ids=["local", "remote"])


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


@pytest.mark.proves("a worker is killed")
@pytest.mark.parametrize("fault", ["segfault", "exit 0", "exit 3", "exit 4", "exit 11"])
def test_an_item_that_ends_its_process_once_is_computed_by_another(chaos: Chaos, journal: str, fault: str) -> None:
    """Exit codes 0, 3 and 4 are those of workers that leave on purpose."""
    run = chaos.run(Faulty(length=100, seconds=0.01, fault=fault, journal=journal))
    assert run.finish().longest_gap <= _LONGEST_GAP
    assert run.stats.lost_workers_count == 1


@pytest.mark.proves(POISONED)
@pytest.mark.parametrize(("fault", "local", "remote"), [("segfault", 2, 0), ("exit 0", 0, 2)])
def test_an_item_that_ends_every_process_is_named_after_three_of_them(
    chaos: Chaos, journal: str, record_gap: RecordGap, fault: str, local: int, remote: int
) -> None:
    sequence = Faulty(length=100, seconds=0.01, fault=fault, times=_FOR_EVER, journal=journal)
    run = chaos.run(sequence, local=local, remote=remote)
    error = run.failure()
    assert isinstance(error, PoisonedBatchError)
    assert error.index == sequence.bad
    assert len(Journal(journal).requested()) == 3
    record_gap(POISONED, run.tally.longest_gap)


@pytest.mark.proves(POISONED)
def test_an_item_that_ends_every_process_is_left_out_where_the_caller_wants_that(chaos: Chaos, journal: str) -> None:
    sequence = Faulty(length=100, seconds=0.01, fault="segfault", times=_FOR_EVER, journal=journal)
    run = chaos.run(sequence, on_error="skip", shuffle=False)
    tally = run.end()
    assert run.error is None
    # Those after it moved up by one place; all else is as it should be.
    assert tally.faults() == {"lost": 1, "out of order": 100 - sequence.bad - 1}
    assert tally.longest_gap <= _LONGEST_GAP


@pytest.mark.proves("a worker is killed")
@places
def test_a_worker_that_the_kernel_kills_for_its_memory_is_replaced(
    memory_group: Callable[[int], MemoryGroup], chaos: Chaos, journal: str, local: int, remote: int
) -> None:
    group = memory_group(_LIMIT_BYTES)
    sequence = Faulty(length=100, fault="eat memory", journal=journal, bad=80)
    # Without a second lease, or the epoch could be over before memory is.
    run = chaos.run(sequence, local=local, remote=remote, shuffle=False, hedge="off")
    supervisor = run.local_supervisor() if local else chaos.remotes[0].pid
    for pid in (supervisor, *run.worker_pids()):
        group.add(pid)
    assert run.finish().longest_gap <= _LONGEST_GAP
    assert group.kills_count() == 1
    assert len(Journal(journal).requested()) == 2


@pytest.mark.proves("`__getitem__` raises")
def test_memory_that_python_itself_cannot_get_is_an_exception_like_any_other(chaos: Chaos, journal: str) -> None:
    sequence = Faulty(length=100, seconds=0.01, fault="exceed the address space", journal=journal)
    run = chaos.run(sequence, retries=1)
    run.finish()
    assert (run.stats.retries_count, run.stats.lost_workers_count) == (1, 0)
