"""Resuming with worker processes: a spec or a live object, other numbers of workers, local and over TCP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from enqueuer import SequenceEnqueuer, Timing
from tests.resume.sequences import Keeping, Lengthening, Numbered, Shuffling
from tests.resume.streams import pieces, uninterrupted
from tests.support.remote import RemoteWorker, free_address
from tests.support.sequences import as_spec

KINDS: dict[str, Callable[[], Any]] = {
    "live, replayed": lambda: Shuffling(5),
    "live, its own state": lambda: Keeping(5),
    "live, set_epoch": lambda: Numbered(5),
    "spec, replayed": lambda: as_spec(Shuffling(5)),
    "spec, growing": lambda: as_spec(Lengthening(3)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_another_number_of_processes_resumes_the_same_stream(kind: str) -> None:
    """The stream is cut in the middle, at an epoch's exact end, and before its first batch."""

    def make(processes: bool = True) -> SequenceEnqueuer:
        return SequenceEnqueuer(KINDS[kind](), processes, shuffle=True)

    cuts = [7, 3, 0, 6]
    expected = uninterrupted(lambda: make(False), sum(cuts))
    assert list(chain(*pieces(make, cuts, [2, 1]))) == expected


def test_a_specs_set_epoch_is_called_in_trainer_and_workers_after_a_resume_as_without() -> None:
    def make() -> SequenceEnqueuer:
        return SequenceEnqueuer(as_spec(Numbered(5)), True, shuffle=True)

    cuts = [8, 6]
    expected = uninterrupted(make, sum(cuts), workers=1)
    assert list(chain(*pieces(make, cuts, [2]))) == expected


def test_a_stream_goes_on_from_processes_to_threads_to_the_consumers_own_thread() -> None:
    kinds: Iterator[bool] = iter([True, False, False])

    def make() -> SequenceEnqueuer:
        return SequenceEnqueuer(Shuffling(5), next(kinds), shuffle=True)

    taken = list(chain(*pieces(make, [6, 6, 6], [2, 3, 0])))
    assert taken == uninterrupted(lambda: SequenceEnqueuer(Shuffling(5), shuffle=True), 18)


def test_unordered_processes_deliver_the_rest_of_a_resumed_epoch_once() -> None:
    def make() -> SequenceEnqueuer:
        return SequenceEnqueuer(as_spec(Shuffling(40)), True, shuffle=True, ordered=False)

    taken = list(chain(*pieces(make, [25, 35, 20], [3, 2])))
    expected = uninterrupted(lambda: SequenceEnqueuer(Shuffling(40), shuffle=True), 80)
    assert sorted(taken[:40]) == sorted(expected[:40]) and sorted(taken[40:]) == sorted(expected[40:])


def test_a_remote_worker_that_outlives_the_trainer_serves_the_resumed_one(tmp_path: Path) -> None:
    address = free_address()
    worker = RemoteWorker(address, tmp_path / "worker.log", arguments=("--drain-timeout", "2"))
    timing = Timing(heartbeat_interval=0.2)

    def make() -> SequenceEnqueuer:
        return SequenceEnqueuer(as_spec(Shuffling(5)), shuffle=True, bind=address, timing=timing)

    try:
        taken = list(chain(*pieces(make, [7, 3, 7], [0])))
    finally:
        worker.stop()
    assert taken == uninterrupted(lambda: SequenceEnqueuer(Shuffling(5), shuffle=True), 17)
