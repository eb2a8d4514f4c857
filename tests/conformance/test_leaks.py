"""An enqueuer leaves nothing behind: no threads, descriptors, processes, shared memory or files.

``ENQUEUER_LEAK_CYCLES=200 pytest tests/conformance/test_leaks.py`` is the long run.
"""

from __future__ import annotations

import gc
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.failing import Failing
from tests.support.leaks import Resources, resources
from tests.support.placement import Placement, take
from tests.support.sequences import Arrays
from tests.support.waiting import settled, wait_until

CYCLES = int(os.environ.get("ENQUEUER_LEAK_CYCLES", "8"))
DEADLINE = pytest.mark.timeout(60 + 5 * CYCLES)


@pytest.fixture(autouse=True)
def own_temporary_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A temporary directory of the test alone, as other programs use the common one. tmp_path is too long for ipc."""
    with tempfile.TemporaryDirectory(prefix="leaks-") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield


def left_behind(before: Resources, apart_from: int | None) -> list[str]:
    gc.collect()
    return resources(apart_from).beyond(before)


def assert_nothing_is_left(before: Resources, apart_from: int | None = None) -> None:
    try:
        wait_until(lambda: not left_behind(before, apart_from), what="nothing left")
    except AssertionError:
        assert left_behind(before, apart_from) == []


def remote_pid(placement: Placement, request: pytest.FixtureRequest) -> int | None:
    return int(request.getfixturevalue("remote_fleet").ensure().pid) if placement.name == "remote" else None


def cycle(placement: Placement, number: int) -> None:
    """One life: stopped in the middle of an epoch, after whole ones, before any batch, or after an error."""
    if number % 4 == 3:
        made = placement.forgotten(Failing(length=4))
        placement.start(made, workers=1 + number // 4 % 2)
        with pytest.raises(ValueError, match="bad"):
            take(made.get(), 8)
    else:
        made = placement.forgotten(Arrays(length=5, size=100_000))
        placement.start(made, workers=1 + number // 4 % 2)
        take(made.get(), (3, 10, 0)[number % 4])
    made.stop()


@DEADLINE
def test_many_lives_leave_nothing_behind(placement: Placement, request: pytest.FixtureRequest) -> None:
    own = remote_pid(placement, request)
    for number in range(4):  # what is imported or opened once, for good
        cycle(placement, number)
    gc.collect()
    before = resources(own)
    for number in range(CYCLES):
        cycle(placement, number)
    assert_nothing_is_left(before, own)


@DEADLINE
def test_many_restarts_of_one_enqueuer_leave_nothing_behind(live_placement: Placement) -> None:
    made = live_placement.enqueuer(Arrays(length=5, size=100_000))
    live_placement.start(made)
    made.stop()
    before = resources()
    for number in range(max(3, CYCLES // 3)):
        live_placement.start(made, workers=1 + number % 2)
        take(made.get(), 3)
        made.stop()
    assert_nothing_is_left(before)


def test_nothing_builds_up_over_epochs(live_placement: Placement) -> None:
    running = live_placement.running(Arrays(length=3, size=100_000), workers=2)
    stream = running.get()
    wait_until(lambda: running.stats().slots_count == 2, what="two slots")
    # In the middle of an epoch: at its end the next one's state is being sent.
    take(stream, 31)
    before = settled(resources)
    take(stream, 150)
    assert_nothing_is_left(before)


@pytest.mark.proves("the training loop drops out without `stop()`")
def test_defect_14_is_absent_an_abandoned_enqueuer_is_collected_with_all_it_holds(
    placement: Placement, request: pytest.FixtureRequest
) -> None:
    """The feeder thread of the originals keeps the object alive for ever."""
    own = remote_pid(placement, request)
    cycle(placement, 0)
    before = resources(own)

    def abandon() -> weakref.ref[Any]:
        made = placement.forgotten(Arrays(length=5, size=100_000))
        placement.start(made)
        take(made.get(), 3)
        return weakref.ref(made)

    reference = abandon()
    wait_until(lambda: gc.collect() >= 0 and reference() is None, what="collection")
    assert_nothing_is_left(before, own)


def test_an_enqueuer_that_was_never_started_is_collected(live_placement: Placement) -> None:
    before = resources()
    made = live_placement.forgotten(Arrays())
    reference = weakref.ref(made)
    stream = made.get()
    del made, stream
    gc.collect()
    assert reference() is None
    assert_nothing_is_left(before)


def test_thread_names_contain_the_name_of_the_library(threads: Placement) -> None:
    before = set(threading.enumerate())
    threads.running(Arrays())
    own = set(threading.enumerate()) - before
    assert own
    assert all("enqueuer" in thread.name.lower() for thread in own)
