"""The trainer's instance of what a `SequenceSpec` names: how many there are, and which thread has it."""

from __future__ import annotations

import gc
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import pytest

from enqueuer import SequenceEnqueuer, SequenceSpec, Timing, worker_info
from enqueuer.compute.epoch_state import EpochEnds
from enqueuer.runtime.trainer_sequence import Histories
from tests.support.sequences import Bare
from tests.support.waiting import wait_until

DEADLINE = 30.0


class Readings:
    """Rows over a connection that belongs to the thread which opened it."""

    def __init__(self, path: str) -> None:
        self.table = sqlite3.connect(path)

    def __len__(self) -> int:
        return int(self.table.execute("SELECT count(*) FROM readings").fetchone()[0])

    def __getitem__(self, index: int) -> float:
        return float(self.table.execute("SELECT value FROM readings WHERE number = ?", (index,)).fetchone()[0])

    def on_epoch_end(self) -> None:
        self.table.execute("SELECT 1")

    def close(self) -> None:
        self.table.close()


class Owned:
    """Notes the thread of each call; of one name, only one may be open."""

    calls: ClassVar[list[tuple[str, str, int]]] = []
    open_names: ClassVar[set[str]] = set()

    def __init__(self, name: str, length: int = 4) -> None:
        if name in self.open_names:
            raise RuntimeError(f"{name} is open in this process already")
        self.open_names.add(name)
        self.name, self.length = name, length
        self.version = 0
        self.note("build")

    def note(self, what: str) -> None:
        self.calls.append((self.name, what, threading.get_ident()))

    def __len__(self) -> int:
        self.note("len")
        return self.length

    def __getitem__(self, index: int) -> tuple[int, int]:
        return self.version, index

    def on_epoch_end(self) -> None:
        self.note("on_epoch_end")
        self.version += 1

    def close(self) -> None:
        self.note("close")
        self.open_names.discard(self.name)


class Slow(Owned):
    """Its build waits."""

    entered: ClassVar[threading.Event]
    release: ClassVar[threading.Event]

    def __init__(self, name: str) -> None:
        super().__init__(name)
        if worker_info() is None:
            self.entered.set()
            assert self.release.wait(6 * DEADLINE)


def refuse() -> Any:
    raise LookupError("no such data")


@pytest.fixture(autouse=True)
def no_calls() -> None:
    Owned.calls.clear()
    Owned.open_names.clear()


def spec(target: str, /, **kwargs: Any) -> SequenceSpec:
    return SequenceSpec(f"{__name__}:{target}", **kwargs)


def calls(what: str) -> list[int]:
    """The threads of these calls on the trainer's instances."""
    return [thread for _, call, thread in Owned.calls if call == what]


# ---------------------------------------------------------------- one thread


@pytest.fixture
def readings(tmp_path: Path) -> SequenceSpec:
    path = str(tmp_path / "readings.db")
    with sqlite3.connect(path) as table:
        table.execute("CREATE TABLE readings (number INTEGER PRIMARY KEY, value REAL)")
        table.executemany("INSERT INTO readings VALUES (?, ?)", [(number, number / 4) for number in range(6)])
    return spec("Readings", path=path)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_object_that_belongs_to_one_thread_is_asked_trained_on_and_resumed(
    readings: SequenceSpec, workers: int
) -> None:
    with SequenceEnqueuer(readings, use_multiprocessing=True, seed=2) as enqueuer:
        assert len(enqueuer) == 6
        enqueuer.start(workers)
        assert list(islice(enqueuer.get(), 3)) == [0.0, 0.25, 0.5]
        state = json.dumps(enqueuer.state_dict())
    with SequenceEnqueuer(readings, use_multiprocessing=True) as enqueuer:
        enqueuer.load_state_dict(json.loads(state))
        enqueuer.start(workers)
        assert list(islice(enqueuer.get(), 5)) == [0.75, 1.0, 1.25, 0.0, 0.25]
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(len, enqueuer).result(DEADLINE) == 6
            assert pool.submit(enqueuer.state_dict).result(DEADLINE)["length"] == 6


def test_every_call_of_the_trainers_instance_is_in_the_thread_that_built_it() -> None:
    with SequenceEnqueuer(spec("Owned", name="store"), use_multiprocessing=True) as enqueuer:
        assert len(enqueuer) == 4
        enqueuer.state_dict()
        enqueuer.start(1)
        list(islice(enqueuer.get(), 9))
    assert {what for _, what, _ in Owned.calls} == {"build", "len", "on_epoch_end", "close"}
    threads = {thread for _, _, thread in Owned.calls}
    assert len(threads) == 1 and threading.get_ident() not in threads


# ---------------------------------------------------------------- one instance


@pytest.mark.parametrize("workers", [0, 2])
def test_there_is_one_instance_over_all_sessions(workers: int) -> None:
    with SequenceEnqueuer(spec("Owned", name="store"), use_multiprocessing=True) as enqueuer:
        for _ in range(2):
            assert len(enqueuer) == 4
            enqueuer.start(workers)
            assert [index for _, index in enqueuer.epoch()] == [0, 1, 2, 3]
            enqueuer.stop()
        enqueuer.load_state_dict(enqueuer.state_dict())
        enqueuer.start(workers)
        assert len(list(enqueuer.epoch())) == 4
        assert len(calls("build")) == 1 and not calls("close")
    assert len(calls("close")) == 1


def test_close_is_called_once_and_a_later_start_builds_anew() -> None:
    enqueuer = SequenceEnqueuer(spec("Owned", name="store"), use_multiprocessing=True)
    for _ in range(2):
        enqueuer.start(1)
        assert next(enqueuer.get()) == (0, 0)
        enqueuer.close()
        enqueuer.close()
    assert (len(calls("build")), len(calls("close"))) == (2, 2)
    assert len(enqueuer) == 4
    del enqueuer
    gc.collect()
    assert (len(calls("build")), len(calls("close"))) == (3, 3)


def test_close_does_not_wait_for_an_item_of_the_callers_own_object() -> None:
    gate, entered = threading.Event(), threading.Event()

    class Stuck(Bare):
        def __getitem__(self, index: int) -> int:
            entered.set()
            gate.wait(DEADLINE)
            return index

    enqueuer = SequenceEnqueuer(Stuck(length=2), timing=Timing(stop=DEADLINE))
    enqueuer.start(workers=1)
    assert entered.wait(DEADLINE)
    begun = time.monotonic()
    enqueuer.close()
    assert not gate.is_set() and time.monotonic() - begun < DEADLINE / 2
    gate.set()


def test_another_spec_closes_the_instance_before_it() -> None:
    with SequenceEnqueuer(spec("Owned", name="store", length=3), use_multiprocessing=True) as enqueuer:
        assert len(enqueuer) == 3
        enqueuer.sequence = spec("Owned", name="store", length=5)
        assert len(enqueuer) == 5
    assert (len(calls("build")), len(calls("close"))) == (2, 2)


def test_a_spec_replaced_in_the_middle_of_an_epoch_ends_that_epoch_first() -> None:
    with SequenceEnqueuer(spec("Owned", name="one", length=3), use_multiprocessing=True) as enqueuer:
        enqueuer.start(1)
        stream = enqueuer.get()
        assert next(stream) == (0, 0)
        enqueuer.sequence = spec("Owned", name="two", length=2)
        assert len(enqueuer) == 2
        assert list(islice(stream, 3)) == [(0, 1), (0, 2), (0, 0)]
    story = [(name, what) for name, what, _ in Owned.calls if what != "len"]
    assert story.index(("one", "on_epoch_end")) < story.index(("one", "close"))
    assert story.count(("one", "close")) == story.count(("two", "close")) == 1


def test_a_state_that_the_instance_cannot_be_brought_to_makes_another_one() -> None:
    with SequenceEnqueuer(spec("Owned", name="store"), use_multiprocessing=True, seed=3) as enqueuer:
        enqueuer.start(1)
        stream = enqueuer.get()
        assert next(stream) == (0, 0)
        state = enqueuer.state_dict()
        assert list(islice(stream, 8))[-1] == (2, 0)
        enqueuer.stop()
        enqueuer.load_state_dict(state)
        assert (len(calls("build")), len(calls("close"))) == (2, 1)
        enqueuer.start(1)
        assert next(enqueuer.get()) == (0, 1)


# ---------------------------------------------------------------- errors of the build


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_build_comes_out_of_start_with_its_traceback(workers: int) -> None:
    with SequenceEnqueuer(spec("refuse"), use_multiprocessing=True) as enqueuer:
        with pytest.raises(LookupError, match="no such data") as caught:
            enqueuer.start(workers)
        assert caught.traceback[-1].name == "refuse"
        assert not enqueuer.is_running()
        with pytest.raises(LookupError, match="no such data"):
            len(enqueuer)


@pytest.fixture
def interrupt_once_it_builds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ctrl-C, also where a background job ignores it."""
    monkeypatch.setattr(Slow, "entered", threading.Event(), raising=False)
    monkeypatch.setattr(Slow, "release", threading.Event(), raising=False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        assert Slow.entered.wait(DEADLINE)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    yield
    thread.join(DEADLINE)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.usefixtures("interrupt_once_it_builds")
def test_ctrl_c_ends_a_start_that_builds_and_the_next_start_has_the_instance(workers: int) -> None:
    with SequenceEnqueuer(spec("Slow", name="store"), use_multiprocessing=True) as enqueuer:
        with pytest.raises(KeyboardInterrupt):
            enqueuer.start(workers)
        assert not enqueuer.is_running() and not Slow.release.is_set()
        Slow.release.set()
        enqueuer.start(workers)
        assert next(enqueuer.get()) == (0, 0)
        assert len(calls("build")) == 1


@pytest.mark.usefixtures("interrupt_once_it_builds")
def test_an_instance_that_is_still_being_built_is_closed_once_it_is_there() -> None:
    with SequenceEnqueuer(spec("Slow", name="store")) as enqueuer, pytest.raises(KeyboardInterrupt):
        len(enqueuer)
    assert not calls("close"), "close() does not wait for a build"
    Slow.release.set()
    wait_until(lambda: len(calls("close")) == 1)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("length", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError), ("4", TypeError), (None, TypeError)]
)
def test_a_length_that_is_none_comes_out_of_start(length: Any, error: type[Exception], workers: int) -> None:
    made: Callable[[], Any] = lambda: Bare(length=length)  # noqa: E731
    with SequenceEnqueuer(made()) as enqueuer, pytest.raises(error):
        enqueuer.start(workers)


def test_a_start_that_failed_leaves_the_loaded_state_and_the_epoch_for_the_next_one() -> None:
    sequence = Bare(length=4)
    with SequenceEnqueuer(sequence, seed=5) as enqueuer:
        enqueuer.start(1)
        assert list(islice(enqueuer.get(), 6))[-1] == (1, 1)
        state = enqueuer.state_dict()
    with SequenceEnqueuer(sequence) as enqueuer:
        enqueuer.load_state_dict(state)
        sequence.length = 0
        with pytest.raises(ValueError, match="empty"):
            enqueuer.start(1)
        sequence.length = 4
        enqueuer.start(1)
        assert next(enqueuer.get()) == (1, 2)
        assert enqueuer.stats().epoch == 1


# ---------------------------------------------------------------- histories


def test_a_history_is_an_objects_own_and_does_not_keep_it_alive() -> None:
    histories = Histories()
    first, second = Bare(), Bare()  # equal, and without a hash
    histories.of(first).append((7, 0))
    assert (histories.of(first).runs, histories.of(second).runs) == (((7, 0, 1),), ())
    histories.replace(first, EpochEnds([(8, 0, 3)]))
    assert histories.of(first).runs == ((8, 0, 3),)
    del first
    gc.collect()
    histories.of(Bare())
    assert len(histories._entries) <= 2


def test_an_object_without_weak_references_has_a_history_too() -> None:
    class Slotted:
        __slots__ = ()

    histories, slotted = Histories(), Slotted()
    histories.of(slotted).append((7, 0))
    assert len(histories.of(slotted)) == 1


def test_threads_that_meet_an_object_at_once_see_one_history() -> None:
    for _ in range(50):
        histories, met, barrier = Histories(), Bare(), threading.Barrier(4)

        def meet(histories: Histories = histories, met: Any = met, barrier: threading.Barrier = barrier) -> EpochEnds:
            barrier.wait(DEADLINE)
            return histories.of(met)

        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(meet) for _ in range(4)]
            assert len({id(future.result(DEADLINE)) for future in found}) == 1
