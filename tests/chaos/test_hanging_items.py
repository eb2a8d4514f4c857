"""Items that hang, for ever or for long."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from enqueuer import BatchTimeoutError, Timing
from tests.support.chaos import Chaos, kill
from tests.support.chaos_sequences import Faulty
from tests.support.journal import Journal
from tests.support.waiting import settled, wait_until

RecordGap = Callable[[str, float], None]

HANGS = "a worker's `__getitem__` hangs"
_BATCH_TIMEOUT = 1.0
_FOR_EVER = 1000

places = pytest.mark.parametrize(("local", "remote"), [(2, 0), (0, 2)], ids=["local", "remote"])
hangs = pytest.mark.parametrize("fault", ["sleep", "hold the GIL"])


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


def hung_pid(journal: str) -> int:
    wait_until(lambda: Journal(journal).requested(), what="the item that hangs")
    return Journal(journal).entries("item")[0].pid


@pytest.mark.proves(HANGS)
@places
def test_a_worker_that_hangs_stops_the_stream_at_its_batch_and_killing_it_sets_it_free(
    chaos: Chaos, journal: str, local: int, remote: int
) -> None:
    run = chaos.run(Faulty(length=100, fault="sleep", journal=journal), local=local, remote=remote, hedge="off")
    victim = hung_pid(journal)
    taken = settled(lambda: run.tally.taken_count, quiet=1.0)
    assert taken < 100
    kill(victim)
    run.finish()
    assert run.stats.lost_workers_count == 1


@places
def test_a_worker_that_holds_its_gil_beyond_all_time_outs_is_not_taken_for_dead(
    chaos: Chaos, journal: str, local: int, remote: int
) -> None:
    timing = Timing(heartbeat_interval=0.5, worker_timeout=2)
    sequence = Faulty(length=100, fault="hold the GIL for 4 s", journal=journal)
    run = chaos.run(sequence, local=local, remote=remote, timing=timing, hedge="off")
    tally = run.finish()
    assert run.stats.lost_workers_count == 0
    # It was waited for; another worker would have had the batch sooner.
    assert tally.longest_gap > timing.worker_timeout + 1


@pytest.mark.proves(HANGS)
@places
@hangs
def test_with_a_batch_timeout_an_item_that_hangs_once_is_computed_by_another_worker(
    chaos: Chaos, journal: str, record_gap: RecordGap, fault: str, local: int, remote: int
) -> None:
    sequence = Faulty(length=100, fault=fault, journal=journal)
    run = chaos.run(sequence, local=local, remote=remote, batch_timeout=_BATCH_TIMEOUT, hedge="off")
    tally = run.finish()
    record_gap(HANGS, tally.longest_gap)
    assert tally.longest_gap <= _BATCH_TIMEOUT + 2
    # One that holds its GIL may keep back the answer before as well: then this batch was moved on, as one that waits.
    assert run.stats.timeouts_count == 1 or fault == "hold the GIL"


@pytest.mark.proves(HANGS)
@pytest.mark.parametrize(
    ("fault", "function"), [("sleep", "sleep_for_ever"), ("hold the GIL", "hold_the_gil_for_ever")]
)
def test_with_a_batch_timeout_an_item_that_always_hangs_is_named_with_the_place_where_it_hung(
    chaos: Chaos, journal: str, fault: str, function: str
) -> None:
    sequence = Faulty(length=100, fault=fault, times=_FOR_EVER, journal=journal)
    run = chaos.run(sequence, batch_timeout=_BATCH_TIMEOUT, hedge="off")
    error = run.failure()
    assert isinstance(error, BatchTimeoutError)
    assert error.index == sequence.bad
    assert function in str(error)


@pytest.mark.proves(HANGS)
def test_with_a_batch_timeout_an_item_that_always_hangs_is_left_out_where_the_caller_wants_that(
    chaos: Chaos, journal: str
) -> None:
    sequence = Faulty(length=100, fault="sleep", times=_FOR_EVER, journal=journal)
    run = chaos.run(sequence, batch_timeout=_BATCH_TIMEOUT, hedge="off", on_error="skip", shuffle=False)
    tally = run.end()
    assert run.error is None
    assert tally.faults() == {"lost": 1, "out of order": 100 - sequence.bad - 1}
