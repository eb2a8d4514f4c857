"""The public class, where the conformance tests do not look: numbers, waiting, restarts, forks, worker processes."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer import NoWorkersError, OrderedEnqueuer, SequenceEnqueuer, SequenceSpec, Timing
from enqueuer.host import total_bytes
from tests.support.journal import Journal
from tests.support.leaks import alive, descendants
from tests.support.placement import passes, take
from tests.support.remote import RemoteWorker, free_address
from tests.support.scripts import run_script
from tests.support.sequences import HOOKS, Bare, Hooked, Journaled, as_spec
from tests.support.waiting import wait_until

DEADLINE = 30.0
LOOPBACK = "tcp://127.0.0.1:*"

Make = Callable[..., SequenceEnqueuer]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[SequenceEnqueuer] = []

    def enqueuer(*arguments: Any, **options: Any) -> SequenceEnqueuer:
        made.append(SequenceEnqueuer(*arguments, **options))
        return made[-1]

    yield enqueuer
    for each in made:
        each.close()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path / "journal"))


def pids(enqueuer: SequenceEnqueuer, count: int) -> set[int]:
    enqueuer.wait_for_workers(count, DEADLINE)
    return {worker.pid for worker in enqueuer.stats().workers}


class Environment(Bare):
    """Batches are variables of the process they were computed in."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    def __getitem__(self, index: int) -> Any:
        return [os.environ.get(name) for name in self.names]


# ---------------------------------------------------------------- numbers


def test_uids_count_up() -> None:
    uids = [SequenceEnqueuer(Bare()).uid, OrderedEnqueuer(Bare()).uid, SequenceEnqueuer(Bare()).uid]
    assert uids == [uids[0], uids[0] + 1, uids[0] + 2]


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ({}, 7),
        ({"shard": (0, 2)}, 3),
        ({"shard": (1, 2), "shard_remainder": "repeat"}, 4),
        ({"shard": (7, 8)}, 0),
    ],
)
def test_len_is_that_of_this_ranks_shard(options: dict[str, Any], length: int) -> None:
    assert len(SequenceEnqueuer(Bare(length=7), **options)) == length
    assert len(SequenceEnqueuer(as_spec(Bare(length=7)), **options)) == length


def test_len_of_a_spec_builds_one_instance_and_follows_the_attribute(make: Make) -> None:
    made = make(as_spec(Bare(length=3)))
    assert len(made) == 3
    assert len(made) == 3
    made.sequence = as_spec(Bare(length=5))
    assert len(made) == 5


def test_an_epochs_number_can_be_given_and_never_goes_back_by_itself(make: Make) -> None:
    made = make(Bare(length=4))
    for given, number in ((None, 0), (5, 5), (None, 6), (2, 2), (None, 7)):
        made.start(1, 2, epoch=given)
        next(made.get())
        assert made.stats().epoch == number
        made.stop()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_restart_after_a_whole_epoch_takes_the_very_next_number(make: Make, workers: int) -> None:
    """So that a run that is stopped between epochs has the orders and seeds of one that is not."""
    whole = make(Bare(length=9), shuffle=True, seed=4)
    whole.start(workers)
    wanted = take(whole.get(), 27)
    made = make(Bare(length=9), shuffle=True, seed=4)
    taken = []
    for _ in range(3):
        made.start(workers)
        taken += list(made.epoch())
        made.stop()
    assert taken == wanted


def test_a_start_that_delivered_nothing_still_used_its_number(make: Make) -> None:
    made = make(Bare(length=4))
    made.start()
    made.stop()
    made.start()
    next(made.get())
    assert made.stats().epoch == 1


@pytest.mark.parametrize("arguments", [{"epoch": -1}, {"workers": -2}, {"max_queue_size": "deep"}])
def test_an_impossible_epoch_number_is_a_value_error_and_nothing_runs(make: Make, arguments: dict[str, Any]) -> None:
    made = make(Bare())
    with pytest.raises(ValueError, match=next(iter(arguments))):
        made.start(**arguments)
    assert not made.is_running()


def test_numpy_integers_are_accepted_for_all_counts(make: Make) -> None:
    made = make(Bare(length=4), True, seed=np.int64(3), shuffle=True, max_batches_per_worker=np.int32(3))
    made.start(np.int64(1), np.int8(3), epoch=np.int16(2))
    assert sorted(take(made.get(), 4)) == [(1, index) for index in range(4)]


def test_options_reach_the_run(make: Make) -> None:
    made = make(Bare(length=50), max_bytes=10**9, retries=2, timing=Timing(stop=3.0))
    made.start(2, 7)
    session = made._session
    assert session is not None
    assert (session.options.max_bytes, session.options.retries, session.options.timing.stop) == (10**9, 2, 3.0)
    next(made.get())
    assert made.stats().queue_limit == 9, "by count: its batches weigh next to nothing"


class Late:
    """Its first batch is late until ``gate`` is opened."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def __len__(self) -> int:
        return 200

    def __getitem__(self, index: int) -> int:
        assert index > 0 or self.gate.wait(DEADLINE)
        return index


def test_an_automatic_depth_lets_idle_workers_go_on_while_a_batch_is_late(make: Make) -> None:
    sequence = Late()
    made = make(sequence)
    made.start(2, "auto")  # at a depth of 12
    taken: list[int] = []
    consumer = threading.Thread(target=lambda: taken.extend(made.epoch()))
    consumer.start()
    wait_until(lambda: made.stats().queue_limit >= 20, what="a greater depth")
    sequence.gate.set()
    consumer.join(DEADLINE)
    assert taken == list(range(200))


@pytest.mark.parametrize(
    ("depth", "max_bytes", "bound"), [("auto", None, total_bytes() // 8), ("auto", 1000, 1000), (10, None, None)]
)
def test_an_automatic_depth_stays_within_an_eighth_of_the_memory_unless_told_otherwise(
    make: Make, depth: int | str, max_bytes: int | None, bound: int | None
) -> None:
    made = make(Bare(), max_bytes=max_bytes)
    made.start(1, depth)
    assert made._session.coordinator.state.facts.max_bytes == bound


def test_an_idle_enqueuer_has_statistics_too(make: Make) -> None:
    stats = make(Bare()).stats()
    assert (stats.running, stats.workers, stats.batches_total) == (False, (), 0)


# ---------------------------------------------------------------- endpoint and waiting


def test_the_endpoint_is_set_while_the_enqueuer_runs(make: Make) -> None:
    made = make(as_spec(Bare()), bind=LOOPBACK)
    assert made.endpoint is None
    made.start(0)
    assert made.endpoint is not None and made.endpoint.startswith("tcp://127.0.0.1:")
    assert not made.endpoint.endswith(("*", ":0"))
    made.stop()
    assert made.endpoint is None


def test_without_bind_there_is_no_endpoint(make: Make) -> None:
    for workers in (0, 1):
        made = make(Bare())
        made.start(workers)
        assert made.endpoint is None


def test_wait_for_workers_counts_threads_and_processes(make: Make) -> None:
    for use_multiprocessing in (False, True):
        made = make(Bare(), use_multiprocessing)
        made.start(2)
        made.wait_for_workers(2, DEADLINE)
        made.wait_for_workers(1)


def test_wait_for_workers_says_how_many_there_are_when_time_is_up(make: Make) -> None:
    made = make(as_spec(Bare()), bind=LOOPBACK)
    made.start(2)
    made.wait_for_workers(2, DEADLINE)
    with pytest.raises(
        TimeoutError, match=r"2 of 3 workers after 0\.05 s; the trainer listens at tcp://127.*--connect"
    ):
        made.wait_for_workers(3, 0.05)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_that_can_never_come_are_not_waited_for(make: Make, workers: int) -> None:
    made = make(Bare())
    made.start(workers)
    made.wait_for_workers(workers, DEADLINE)
    with pytest.raises(NoWorkersError, match="never be there"):
        made.wait_for_workers(workers + 1)


def test_wait_for_workers_needs_a_run_and_ends_with_it(make: Make) -> None:
    made = make(as_spec(Bare()), bind=LOOPBACK)
    with pytest.raises(RuntimeError, match="not running"):
        made.wait_for_workers(1)
    made.start(0)
    stopper = threading.Thread(target=made.stop)
    stopper.start()
    with pytest.raises(RuntimeError, match="not running"):
        made.wait_for_workers(1)
    stopper.join(DEADLINE)


def test_wait_for_workers_raises_the_error_that_keeps_workers_from_joining(make: Make) -> None:
    made = make(Bare(), worker_init=lambda: 1 / 0)
    made.start(1)
    with pytest.raises(ZeroDivisionError):
        made.wait_for_workers(2)
    with pytest.raises(ZeroDivisionError):
        next(made.get())
    assert not made.is_running()


# ---------------------------------------------------------------- stopping and starting at once


@pytest.mark.parametrize("options", [{}, {"bind": "a free port"}, {"use_multiprocessing": True}])
def test_a_start_during_a_stop_waits_for_it_and_then_runs(make: Make, options: dict[str, Any]) -> None:
    """The new run may want the same port, and must not lose its processes to the old one's end."""
    if "bind" in options:
        options = {"bind": free_address()}
    entered, release = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        entered.set()
        release.wait(DEADLINE)

    HOOKS["hold"] = hold
    try:
        sequence = Hooked(length=2, hook="hold")
        made = make(as_spec(sequence) if "bind" in options else sequence, **options)
        made.start(1, 2)
        assert take(made.get(), 2) == passes(2, 1)
        assert entered.wait(DEADLINE)
        stopper = threading.Thread(target=made.stop)
        stopper.start()
        wait_until(lambda: not made.is_running())
        starter = threading.Thread(target=made.start, args=(1, 2))
        starter.start()
        release.set()
        for thread in (starter, stopper):
            thread.join(DEADLINE)
        assert [index for _, index in take(made.get(), 4)] == [0, 1, 0, 1]
    finally:
        release.set()
        del HOOKS["hold"]


@pytest.mark.parametrize("use_multiprocessing", [False, True])
def test_every_caller_of_stop_returns_when_all_has_ended(make: Make, use_multiprocessing: bool) -> None:
    made = make(Bare(), use_multiprocessing)
    before = descendants(os.getpid())
    made.start(2)
    next(made.get())
    left: list[list[str]] = []

    def stop() -> None:
        made.stop()
        threads = [thread.name for thread in threading.enumerate() if thread.name == "enqueuer-io"]
        left.append(threads + [str(pid) for pid in alive(descendants(os.getpid()) - before)])

    callers = [threading.Thread(target=stop) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(DEADLINE)
    assert left == [[], [], [], []]


def test_two_threads_share_one_epoch_and_both_end_with_it(make: Make) -> None:
    """The next epoch waits until somebody wants it, and neither does."""
    made = make(Bare(length=5), True)
    made.start(2)
    shares: list[list[Any]] = []
    consumers = [threading.Thread(target=lambda: shares.append(list(made.epoch()))) for _ in range(2)]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join(DEADLINE)
    assert not any(consumer.is_alive() for consumer in consumers)
    assert sum(map(len, shares)) % 5 == 0
    assert {index for share in shares for _, index in share} == set(range(5))


@pytest.mark.parametrize("use_multiprocessing", [False, True])
def test_without_a_bound_no_more_than_one_epoch_is_computed_ahead(
    make: Make, journal: Journal, use_multiprocessing: bool
) -> None:
    made = make(Bare(length=3, journal=journal.path), use_multiprocessing, prefetch_epochs=True)
    made.start(1, 0)  # with two, a batch that moves may be begun by both
    wait_until(lambda: len(journal.requested()) == 6, what="two epochs")
    next(made.get())
    take(made.get(), 2)
    assert len(journal.requested()) <= 9
    assert [index for _, index in take(made.get(), 9)] == [0, 1, 2] * 3


# ---------------------------------------------------------------- local processes


def test_persistent_workers_are_the_same_processes_after_a_restart_and_end_with_close(make: Make) -> None:
    made = make(Journaled(length=4), True, persistent_workers=True)
    made.start(2)
    first = pids(made, 2)
    take(made.get(), 6)
    made.stop()
    assert alive(first) == first
    made.start(2)
    assert pids(made, 2) == first
    assert [index for _, index in take(made.get(), 5)] == [0, 1, 2, 3, 0]
    made.stop()
    made.start(1)
    assert pids(made, 1) < first
    take(made.get(), 5)
    made.close()
    assert not alive(first)
    assert not made.is_running()


def test_closing_an_idle_enqueuer_ends_its_persistent_workers(make: Make) -> None:
    made = make(Bare(), True, persistent_workers=True)
    made.start(1)
    workers = pids(made, 1)
    made.stop()
    made.close()
    made.close()
    assert not alive(workers)


def test_a_persistent_worker_that_was_killed_while_idle_is_replaced(make: Make) -> None:
    made = make(Bare(length=4), True, persistent_workers=True)
    made.start(1)
    (worker,) = pids(made, 1)
    made.stop()
    os.kill(worker, 9)
    made.start(1)
    assert take(made.get(), 4) == [(1, index) for index in range(4)]
    assert worker not in pids(made, 1)


def test_workers_are_recycled_without_loss(make: Make, journal: Journal) -> None:
    made = make(Journaled(length=40, journal=journal.path), True, max_batches_per_worker=5)
    made.start(2)
    assert take(made.get(), 80) == passes(40, 2)
    computed = journal.entries("item")
    # One that has had its share finishes what it holds, which may be some more.
    assert len({entry.pid for entry in computed}) >= 4
    assert made.stats().lost_workers_count == 0


class Closing(Journaled):
    """Notes the end of each copy."""

    def close(self) -> None:
        self.note("close")


def test_a_local_worker_that_leaves_closes_its_sequence(make: Make, journal: Journal) -> None:
    made = make(Closing(length=20, journal=journal.path), True, max_batches_per_worker=4)
    made.start(1)
    take(made.get(), 9)
    wait_until(lambda: len({entry.pid for entry in journal.entries("close")}) >= 2, what="two workers' ends")
    assert os.getpid() not in {entry.pid for entry in journal.entries("close")}


def test_a_live_worker_init_runs_in_each_process_before_the_first_item(make: Make) -> None:
    def init() -> None:
        os.environ["ENQUEUER_TEST_INIT"] = "live"

    made = make(Environment("ENQUEUER_TEST_INIT"), True, worker_init=init)
    made.start(2)
    assert take(made.get(), 8) == [["live"]] * 8
    assert "ENQUEUER_TEST_INIT" not in os.environ


NAMED_INIT = """
import os
def init():
    os.environ["ENQUEUER_TEST_INIT"] = "named"
class Probe:
    def __len__(self): return 4
    def __getitem__(self, index): return [os.environ.get("ENQUEUER_TEST_INIT")]
"""


@pytest.mark.parametrize("sequence", [Environment("ENQUEUER_TEST_INIT"), SequenceSpec("named_init:Probe")])
def test_a_worker_init_by_name_is_imported_in_the_worker(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sequence: Any
) -> None:
    (tmp_path / "named_init.py").write_text(NAMED_INIT)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = make(sequence, True, worker_init="named_init:init")
    made.start(1)
    assert next(made.get()) == ["named"]
    assert "ENQUEUER_TEST_INIT" not in os.environ


@pytest.mark.proves("local workers die whenever they are started, or cannot load the Sequence")
def test_a_worker_init_that_raises_comes_out_of_next(make: Make) -> None:
    def init() -> None:
        raise LookupError("no GPU here")

    for use_multiprocessing in (False, True):
        made = make(Bare(), use_multiprocessing, worker_init=init)
        made.start(1)
        with pytest.raises(LookupError, match="no GPU here"):
            next(made.get())
        assert not made.is_running()


@pytest.mark.parametrize(("options", "count"), [({}, "1"), ({"worker_threads": 3}, "3")])
def test_each_worker_process_has_as_many_threads_for_numbers_as_it_is_told(
    make: Make, options: dict[str, int], count: str
) -> None:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    made = make(Environment(*names), True, **options)
    made.start(1)
    assert next(made.get()) == [count] * 4


# ---------------------------------------------------------------- remote workers


@pytest.mark.proves("a remote worker meets a live object")
def test_a_remote_worker_is_rejected_for_a_live_object_and_both_sides_log_the_reason(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = make(Bare(), bind=free_address())
    made.start(0)
    assert made.endpoint is not None
    with RemoteWorker(made.endpoint, tmp_path / "log", processes=1, arguments=("--drain-timeout", "1")) as worker:
        wait_until(lambda: "rejected this worker" in worker.output(), DEADLINE, what="the rejection")
        output = worker.output()
    assert "live object" in output and "SequenceSpec" in output
    rejections = [record.getMessage() for record in caplog.records if "rejected worker" in record.getMessage()]
    assert rejections and "SequenceSpec" in rejections[0]
    with pytest.raises(TimeoutError, match=r"0 of 1 workers after 0\.01 s; worker .* was refused: .*SequenceSpec"):
        made.wait_for_workers(1, 0.01)
    assert made.is_running(), "another worker, or a spec at the next start, may still come"


def test_a_draining_remote_worker_closes_its_sequence_and_its_lines_are_in_the_trainers_log(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "enqueuer.remote")
    note = tmp_path / "note"
    spec = SequenceSpec("tests.worker.sequences:Moody", moods={"1": "talk"}, note=str(note))
    made = make(spec, bind=free_address())
    made.start(0)
    assert made.endpoint is not None
    with RemoteWorker(made.endpoint, tmp_path / "log", processes=1) as worker:
        assert [index for index, _ in take(made.get(), 3)] == [0, 1, 2]

        def lines() -> str:
            return "\n".join(record.getMessage() for record in caplog.records if record.name == "enqueuer.remote")

        for text in ("printed", "complained", "logged", "warned"):
            wait_until(lambda text=text: text in lines(), what=text)  # type: ignore[misc]
        assert not note.exists()
        assert worker.stop() == 0
    assert note.read_text() == "closed"


# ---------------------------------------------------------------- forks and exits

FORKED = """
import os, sys, warnings
from enqueuer import SequenceEnqueuer
from tests.support.remote import free_address
from tests.support.sequences import Bare, as_spec
warnings.simplefilter("ignore", DeprecationWarning)

enq = SequenceEnqueuer(as_spec(Bare(length=10)), bind=free_address())
enq.start(2, 4)
endpoint = enq.endpoint
stream = enq.get()
assert next(stream) == (1, 0)
child = os.fork()
if child == 0:
    assert not enq.is_running() and enq.endpoint is None
    assert list(stream) == []
    enq.sequence = Bare(length=3, factor=7)
    mine = SequenceEnqueuer(Bare(length=3, factor=7))
    mine.start(2, 4)
    view = mine.get()
    assert [next(view) for _ in range(3)] == [(7, 0), (7, 1), (7, 2)]
    mine.close()
    enq.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert enq.is_running() and enq.endpoint == endpoint
assert [next(stream) for _ in range(19)] == [(1, index % 10) for index in range(1, 20)]
enq.stop()
print("unharmed")
"""


def test_a_forked_child_has_a_stopped_enqueuer_may_run_its_own_and_harms_nothing(tmp_path: Path) -> None:
    assert run_script(FORKED, tmp_path) == "unharmed\n"


EXITING = """
import os
from enqueuer import SequenceEnqueuer
from tests.support.leaks import descendants
from tests.support.sequences import Bare

enq = SequenceEnqueuer(Bare(), True, persistent_workers=True)
enq.start(1, 2)
next(enq.get())
enq.stop()
print(*descendants(os.getpid()))
"""


def test_persistent_workers_end_with_their_program(tmp_path: Path) -> None:
    started = {int(pid) for pid in run_script(EXITING, tmp_path, timeout=20).split()}
    assert len(started) == 2
    wait_until(lambda: not alive(started), what="the end of its processes")


def test_an_enqueuer_that_the_interpreter_drops_last_raises_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    enq = make(Bare(3))
    enq.start()
    with monkeypatch.context() as at_exit:
        at_exit.setattr("enqueuer.sequence_enqueuer.contextlib", None)
        enq.__del__()
