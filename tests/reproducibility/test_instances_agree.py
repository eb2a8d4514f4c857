"""Instances that are built, drawn or remembered apart agree: real processes, each with an instance of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pytest

from enqueuer import SequenceEnqueuer, SequenceSpec
from tests.reproducibility import apart
from tests.support.remote import RemoteWorker, free_address

SAMPLES = 64
LENGTH = SAMPLES // 4
EPOCHS = 3
DRAWN = [
    "InTheConstructor",
    "WithItsOwnGenerator",
    "AtTheFirstItem",
    "InItsModule",
    "InACache",
    "OfASet",
    "OverTheEpochs",
]


@contextmanager
def running(sequence: Any, workers: int, **options: Any) -> Iterator[Any]:
    """The endless stream of processes that all take part from the beginning."""
    with SequenceEnqueuer(sequence, True, min_workers=workers, **options) as enqueuer:
        enqueuer.start(workers, 2)
        yield enqueuer.get()


def spec(name: str, **arguments: Any) -> SequenceSpec:
    return SequenceSpec(f"tests.reproducibility.apart:{name}", **arguments)


def samples_of(stream: Any) -> list[list[int]]:
    """The samples of each epoch, in the order in which they came."""
    return [[int(n) for batch in islice(stream, LENGTH) for n in batch] for _ in range(EPOCHS)]


@pytest.mark.parametrize("name", DRAWN)
def test_every_sample_comes_once_an_epoch_from_a_spec_that_draws_its_order(name: str) -> None:
    with running(spec(name, samples=SAMPLES), 2, seed=5) as stream:
        epochs = samples_of(stream)
    assert [sorted(epoch) for epoch in epochs] == [list(range(SAMPLES))] * EPOCHS
    with running(spec(name, samples=SAMPLES), 1, seed=5) as stream:
        assert samples_of(stream) == epochs, "and in the same order on one worker"


@pytest.mark.parametrize("name", ["InTheConstructor", "WithItsOwnGenerator", "AtTheFirstItem", "InItsModule"])
def test_every_sample_comes_once_an_epoch_from_a_live_object_that_draws_its_order(name: str) -> None:
    with running(getattr(apart, name)(SAMPLES), 2, seed=5) as stream:
        epochs = samples_of(stream)
    assert [sorted(epoch) for epoch in epochs] == [list(range(SAMPLES))] * EPOCHS


def test_a_remote_worker_agrees_with_the_local_ones(tmp_path: Path) -> None:
    address = free_address()
    sequence = spec("AtTheFirstItem", samples=SAMPLES)
    remote = RemoteWorker(address, tmp_path / "log", processes=1)
    with SequenceEnqueuer(sequence, True, seed=5, bind=address) as enqueuer, remote:
        enqueuer.start(1, 2)
        enqueuer.wait_for_workers(2, 30)
        epochs = samples_of(enqueuer.get())
        assert sum(worker.batches_count > 0 for worker in enqueuer.stats().workers) == 2
    assert [sorted(epoch) for epoch in epochs] == [list(range(SAMPLES))] * EPOCHS


def test_owned_generators_give_the_same_bits_on_any_number_of_workers_and_no_two_alike() -> None:
    streams = []
    for workers in (1, 7):
        with running(apart.Grain(12), workers, seed=5) as stream:
            streams.append(list(islice(stream, 24)))
    assert streams[0] == streams[1]
    assert len(set(streams[0])) == 24


@pytest.mark.parametrize("name", ["InItsModule", "OverTheEpochs"])
def test_a_worker_that_joins_an_epoch_later_agrees_on_what_was_drawn_before(name: str) -> None:
    with running(spec(name, samples=SAMPLES), 1, seed=5) as stream:
        expected = samples_of(stream)
    with SequenceEnqueuer(spec(name, samples=SAMPLES), True, seed=5, max_batches_per_worker=5) as enqueuer:
        enqueuer.start(2, 2)
        epochs = samples_of(enqueuer.get())
    assert epochs == expected
    assert [sorted(epoch) for epoch in epochs] == [list(range(SAMPLES))] * EPOCHS


@pytest.mark.parametrize("name", ["AtTheFirstItem", "OverTheEpochs"])
def test_a_resumed_stream_goes_on_in_the_order_that_was_drawn(name: str) -> None:
    sequence = spec(name, samples=SAMPLES)
    with running(sequence, 2, seed=5) as stream:
        expected = samples_of(stream)
    with SequenceEnqueuer(sequence, True, seed=5) as enqueuer:
        enqueuer.start(2, 2)
        first = [int(n) for batch in islice(enqueuer.get(), LENGTH + 3) for n in batch]
        state = enqueuer.state_dict()
    with SequenceEnqueuer(sequence, True, seed=5) as enqueuer:
        enqueuer.load_state_dict(state)
        enqueuer.start(3, 2)
        rest = [int(n) for batch in islice(enqueuer.get(), 2 * LENGTH - 3) for n in batch]
    assert first + rest == list(chain.from_iterable(expected))


def test_a_worker_keeps_an_unchanged_live_object_with_what_it_remembers() -> None:
    with running(apart.Remembers(4), 1) as stream:
        batches = list(islice(stream, 12))
    assert [known for _, known in batches] == [False] * 4 + [True] * 8
    assert len({pid for pid, _ in batches}) == 1


def test_a_change_between_two_epochs_renews_the_workers_copies() -> None:
    sequence = apart.Remembers(4)
    with running(sequence, 1) as stream:
        list(islice(stream, 4))
        sequence.known.add(99)
        assert [known for _, known in islice(stream, 4)] == [False] * 4


def test_close_is_called_once_at_the_end_and_never_on_a_copy_that_is_renewed(tmp_path: Path) -> None:
    path = tmp_path / "scratch"
    path.write_text("s")
    with running(apart.Scratch(str(path)), 1) as stream:
        assert list(islice(stream, 9)) == ["s0", "s1", "s2"] * 3
    assert not path.exists()


def test_no_index_is_computed_for_two_epochs_at_once(tmp_path: Path) -> None:
    with running(spec("Cached", folder=str(tmp_path), length=4), 3) as stream:
        assert list(islice(stream, 12)) == [4000] * 12
