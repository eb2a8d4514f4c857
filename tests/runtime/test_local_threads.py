"""The trainer's own threads, driven by the messages that the core would send."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from enqueuer import item_rng, worker_info
from enqueuer.compute.item import compute_item
from enqueuer.compute.overdue import describe_stack
from enqueuer.compute.seeding import item_generator
from enqueuer.core.events import ControlReceived, Event, ResultsReceived, ThreadsJoined, ThreadTimedOut
from enqueuer.protocol.messages import Bye, Failure, Grant
from enqueuer.runtime.local_threads import ROUTE, LocalThreads
from enqueuer.runtime.outcomes import InPlaceError
from tests.support.sequences import Bare
from tests.support.waiting import wait_until, wait_until_collected

DEADLINE = 10.0
SESSION = b"s" * 16
SEED = 5


class Called:
    """A Sequence with a function of the test as ``__getitem__``."""

    def __init__(self, function: Callable[[int], Any]) -> None:
        self._function = function

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> Any:
        return self._function(index)


class Threads:
    """Local threads, and the events and errors that they reported."""

    def __init__(
        self,
        sequence: Any,
        count: int = 1,
        worker_init: Callable[[], Any] | None = None,
        batch_timeout: float | None = None,
    ) -> None:
        self.sequences = {0: sequence}
        self.events: list[Event] = []
        self.errors: list[BaseException] = []
        self.threads = LocalThreads(
            count,
            SESSION,
            SEED,
            self._sequence,
            worker_init,
            self.events.append,
            self.errors.append,
            batch_timeout=batch_timeout,
        )
        self.threads.start()

    def _sequence(self, epoch: int) -> Any:
        return self.sequences[epoch]

    def grant(self, first_lease: int, *indices: int, epoch: int = 0) -> None:
        self.threads.handle(Grant(epoch, 0, 0, first_lease, indices))

    def results(self, count: int) -> list[ResultsReceived]:
        wait_until(lambda: len(self._results()) == count, what=f"{count} results")
        return self._results()

    def _results(self) -> list[ResultsReceived]:
        return [event for event in list(self.events) if isinstance(event, ResultsReceived)]

    def batches(self, count: int) -> dict[int, Any]:
        return {event.leases[0]: event.payloads[0].build() for event in self.results(count)}

    def timeouts(self, count: int) -> list[ThreadTimedOut]:
        def those() -> list[ThreadTimedOut]:
            return [event for event in list(self.events) if isinstance(event, ThreadTimedOut)]

        wait_until(lambda: len(those()) == count, what=f"{count} time-outs")
        return those()

    def failure(self) -> Failure:
        wait_until(lambda: any(isinstance(event, ControlReceived) for event in list(self.events)), what="a failure")
        (event,) = [event for event in self.events if isinstance(event, ControlReceived)]
        assert (event.route, event.session) == (ROUTE, SESSION)
        assert isinstance(event.message, Failure)
        return event.message


Make = Callable[..., Threads]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Threads] = []

    def threads(*arguments: Any, **options: Any) -> Threads:
        made.append(Threads(*arguments, **options))
        return made[-1]

    yield threads
    for each in made:
        each.threads.stop()
        each.threads.join()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


def test_local_threads_join_as_one_worker_with_a_slot_each(make: Make) -> None:
    (joined,) = make(Bare(), count=3).events
    assert isinstance(joined, ThreadsJoined)
    assert (joined.route, joined.slots, joined.pid) == (ROUTE, 3, os.getpid())


def test_each_lease_is_answered_with_its_batch(make: Make) -> None:
    threads = make(Bare(), count=2)
    threads.grant(10, 4, 0, 7)
    assert threads.batches(3) == {10: (1, 4), 11: (1, 0), 12: (1, 7)}
    results = threads.results(3)
    assert sorted(event.seq for event in results) == [1, 2, 3]
    joined = threads.events[0]
    assert isinstance(joined, ThreadsJoined)
    assert {event.incarnation for event in results} == {joined.incarnation}
    assert all((event.epoch, event.generation) == (0, 0) and event.busy >= 0 for event in results)


def test_an_epochs_leases_are_computed_with_that_epochs_object(make: Make) -> None:
    threads = make(Bare(factor=1))
    threads.sequences[1] = Bare(factor=2)
    threads.grant(1, 0, epoch=1)
    threads.grant(2, 0, epoch=0)
    assert threads.batches(2) == {1: (2, 0), 2: (1, 0)}


def test_the_exception_of_an_item_is_its_answer_and_the_thread_goes_on(make: Make) -> None:
    error = LookupError("no such file")

    def item(index: int) -> int:
        if index == 0:
            raise error
        return index

    threads = make(Called(item))
    threads.grant(1, 0, 1)
    assert threads.batches(1) == {2: 1}
    failure = threads.failure()
    assert failure.lease == 1
    assert isinstance(failure.error, InPlaceError) and failure.error.exception is error


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unweighable:
    @property
    def nbytes(self) -> int:
        raise OSError("the file is closed")


def test_neither_an_exception_without_a_text_nor_a_batch_without_a_weight_ends_a_thread(make: Make) -> None:
    batch = Unweighable()

    def item(index: int) -> Any:
        if index == 0:
            raise Unprintable
        return batch

    threads = make(Called(item))
    threads.grant(1, 0, 1)
    assert threads.batches(1) == {2: batch}
    assert threads.failure().lease == 1


def test_system_exit_in_an_item_does_not_end_its_thread(make: Make) -> None:
    threads = make(Called(lambda index: index if index else exit(3)))
    threads.grant(1, 0, 1)
    assert threads.batches(1) == {2: 1}
    assert threads.failure().error.qualname == "SystemExit"


def test_messages_for_processes_mean_nothing_to_threads(make: Make) -> None:
    threads = make(Bare())
    threads.threads.handle(Bye())
    threads.grant(1, 0)
    assert threads.batches(1) == {1: (1, 0)}


def test_worker_info_names_the_thread_and_item_rng_is_the_items_generator(make: Make) -> None:
    def item(index: int) -> Any:
        info = worker_info()
        assert info is not None
        return info.worker_id, info.number, info.epoch, info.seed, item_rng().random()

    threads = make(Called(item))
    threads.grant(1, 6)
    assert threads.batches(1)[1] == ("thread-0", 0, 0, SEED, item_generator(SEED, 0, 6).random())


def test_worker_init_runs_once_in_each_thread_before_its_first_item(make: Make) -> None:
    prepared = threading.local()
    starts: list[int] = []

    def init() -> None:
        info = worker_info()
        assert info is not None
        prepared.done = True
        starts.append(info.number)

    threads = make(Called(lambda _: prepared.done), count=3, worker_init=init)
    threads.grant(1, *range(20))
    assert set(threads.batches(20).values()) == {True}
    wait_until(lambda: sorted(starts) == [0, 1, 2])


def test_an_error_of_worker_init_is_reported(make: Make) -> None:
    error = LookupError("no GPU")

    def init() -> None:
        raise error

    threads = make(Bare(), worker_init=init)
    wait_until(lambda: threads.errors == [error])


def test_after_stop_nothing_more_begins_and_the_thread_inside_a_call_is_not_waited_for(
    make: Make, gate: threading.Event
) -> None:
    entered = threading.Event()
    begun: list[int] = []

    def item(index: int) -> int:
        begun.append(index)
        entered.set()
        assert gate.wait(DEADLINE)
        return index

    threads = make(Called(item))
    threads.grant(1, 0, 1, 2)
    assert entered.wait(DEADLINE)
    threads.threads.stop()
    threads.threads.join()
    gate.set()
    assert sorted(threads.batches(1)) == [1]
    wait_until(lambda: not any(thread.is_alive() for thread in threads.threads._threads), what="the thread's end")
    assert begun == [0]


def test_join_waits_for_idle_threads(make: Make) -> None:
    threads = make(Bare(), count=4)
    threads.threads.stop()
    threads.threads.join()
    wait_until(lambda: not any(thread.is_alive() for thread in threads.threads._threads), what="the threads' end")


def test_an_idle_thread_does_not_keep_the_sequence(make: Make, gate: threading.Event) -> None:
    sequence = Called(lambda index: gate.wait(DEADLINE) and index)
    threads = make(sequence)
    threads.grant(1, 0, 1)
    gate.set()
    threads.results(2)
    watched = weakref.ref(sequence)
    threads.sequences.clear()
    del sequence
    wait_until_collected(watched)


# ---------------------------------------------------------------- time-outs

TIMEOUT = 0.2


def test_a_stuck_thread_is_reported_and_replaced_and_its_late_answer_is_dropped(
    make: Make, gate: threading.Event
) -> None:
    stuck: list[threading.Thread] = []

    def wait_for_the_gate() -> None:
        stuck.append(threading.current_thread())
        assert gate.wait(DEADLINE)

    def item(index: int) -> int:
        if index == 0:
            wait_for_the_gate()
        return index

    threads = make(Called(item), batch_timeout=TIMEOUT)
    threads.grant(1, 0, 1, 2)
    (timed_out,) = threads.timeouts(1)
    joined = threads.events[0]
    assert isinstance(joined, ThreadsJoined)
    assert (timed_out.incarnation, timed_out.epoch, timed_out.generation, timed_out.lease) == (
        joined.incarnation,
        0,
        0,
        1,
    )
    assert "in wait_for_the_gate\n    assert gate.wait(DEADLINE)\n" in timed_out.stack
    assert "compute_item" not in timed_out.stack
    assert threads.batches(2) == {2: 1, 3: 2}
    gate.set()
    wait_until(lambda: not stuck[0].is_alive(), what="the end of the thread that was stuck")
    assert [event.seq for event in threads.results(2)] == [1, 2]


def test_a_stuck_threads_late_exception_is_dropped(make: Make, gate: threading.Event) -> None:
    stuck: list[threading.Thread] = []

    def item(index: int) -> int:
        if index == 0:
            stuck.append(threading.current_thread())
            assert gate.wait(DEADLINE)
            raise LookupError("too late")
        return index

    threads = make(Called(item), batch_timeout=TIMEOUT)
    threads.grant(1, 0)
    threads.timeouts(1)
    gate.set()
    wait_until(lambda: not stuck[0].is_alive(), what="the end of the thread that was stuck")
    threads.grant(2, 1)
    assert threads.batches(1) == {2: 1}
    assert not any(isinstance(event, ControlReceived) for event in threads.events)


def test_every_stuck_thread_is_replaced_by_one_with_its_number(make: Make, gate: threading.Event) -> None:
    prepared: list[int] = []
    together = threading.Barrier(3, timeout=DEADLINE)

    def item(index: int) -> Any:
        if index < 3:
            assert gate.wait(DEADLINE)
        if index >= 50:
            together.wait()
        info = worker_info()
        assert info is not None
        return info.number

    def init() -> None:
        info = worker_info()
        assert info is not None
        prepared.append(info.number)

    threads = make(Called(item), count=3, worker_init=init, batch_timeout=TIMEOUT)
    threads.grant(1, 0, 1, 2)
    assert sorted(event.lease for event in threads.timeouts(3)) == [1, 2, 3]
    threads.grant(4, 50, 51, 52)
    assert sorted(threads.batches(3).values()) == [0, 1, 2]
    assert sorted(prepared) == [0, 0, 1, 1, 2, 2]
    assert threads.errors == []


def test_an_item_that_takes_its_time_within_the_limit_is_left_alone(make: Make) -> None:
    def item(index: int) -> int:
        begun = time.monotonic()
        while time.monotonic() < begun + 0.05:
            time.sleep(0.005)
        return index

    threads = make(Called(item), count=2, batch_timeout=5.0)
    threads.grant(1, *range(20))
    assert len(threads.batches(20)) == 20
    assert threads.timeouts(0) == []


def test_the_watch_runs_only_with_a_timeout_and_ends_with_the_threads(make: Make) -> None:
    def watches() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "enqueuer-watch"]

    make(Bare())
    assert watches() == []
    threads = make(Bare(), batch_timeout=30.0)
    (watch,) = watches()
    assert watch.daemon
    threads.threads.stop()
    threads.threads.join()
    assert watches() == []


def test_stop_and_join_do_not_wait_for_stuck_threads_and_replace_none(make: Make, gate: threading.Event) -> None:
    entered = threading.Event()

    def item(index: int) -> None:
        if index == 2:
            entered.set()
        gate.wait(DEADLINE)

    threads = make(Called(item), count=2, batch_timeout=TIMEOUT)
    threads.grant(1, 0, 1)
    threads.timeouts(2)
    threads.grant(3, 2)
    assert entered.wait(DEADLINE)
    begun = time.monotonic()
    threads.threads.stop()
    threads.threads.join()
    assert time.monotonic() - begun < DEADLINE / 2
    told = [event for event in threads.events if isinstance(event, ThreadTimedOut)]
    assert not any(thread.name == "enqueuer-watch" for thread in threading.enumerate())
    gate.set()
    wait_until(lambda: not any(thread.is_alive() for thread in threads.threads._threads), what="the threads' end")
    assert [event for event in threads.events if isinstance(event, ThreadTimedOut)] == told


def test_a_substitute_that_cannot_be_started_is_an_error(
    make: Make, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = make(Called(lambda _: gate.wait(DEADLINE)), batch_timeout=TIMEOUT)
    error = RuntimeError("can't start new thread")

    def refuse(_: threading.Thread) -> None:
        raise error

    monkeypatch.setattr(threading.Thread, "start", refuse)
    threads.grant(1, 0)
    wait_until(lambda: threads.errors == [error], what="the error")


def test_the_watch_does_not_keep_the_sequence(make: Make, gate: threading.Event) -> None:
    sequence = Called(lambda _: gate.wait(DEADLINE))
    threads = make(sequence, batch_timeout=TIMEOUT)
    threads.grant(1, 0)
    threads.timeouts(1)
    gate.set()
    watched = weakref.ref(sequence)
    threads.sequences.clear()
    del sequence
    wait_until_collected(watched)


DEADLINE = 10.0


def in_a_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


class Recursive:
    """Each item recurses as deep as its index, and waits there."""

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate
        self.entered = threading.Event()

    def __getitem__(self, index: int) -> None:
        if index:
            self.deeper(index)
        self.wait()

    def deeper(self, index: int) -> None:
        self[index - 1]

    def wait(self) -> None:
        self.entered.set()
        self.gate.wait(DEADLINE)


def test_a_stack_begins_with_the_users_own_code(gate: threading.Event) -> None:
    sequence = Recursive(gate)
    thread = in_a_thread(lambda: compute_item(sequence, 1, seed=0, epoch=0))
    assert sequence.entered.wait(DEADLINE)
    heading, *lines = describe_stack(thread).splitlines()
    assert heading == "Stack (most recent call last):"
    functions = [line.rpartition(" in ")[2] for line in lines if line.startswith("  File ")]
    assert functions[:3] == ["__getitem__", "deeper", "__getitem__"]


def test_the_stack_of_a_thread_without_an_item_is_shown_whole(gate: threading.Event) -> None:
    thread = in_a_thread(lambda: gate.wait(DEADLINE))
    wait_until(lambda: "gate.wait(DEADLINE)" in describe_stack(thread))
    assert "threading.py" in describe_stack(thread)


def test_the_stack_of_a_deep_recursion_shows_the_innermost_calls(gate: threading.Event) -> None:
    sequence = Recursive(gate)
    thread = in_a_thread(lambda: compute_item(sequence, 300, seed=0, epoch=0))
    assert sequence.entered.wait(DEADLINE)
    text = describe_stack(thread)
    assert 16_000 < len(text) < 17_000
    assert "in wait\n" in text


def test_a_thread_that_has_ended_or_never_began_has_no_stack() -> None:
    ended = in_a_thread(lambda: None)
    ended.join()
    assert describe_stack(ended) == describe_stack(threading.Thread()) == ""
