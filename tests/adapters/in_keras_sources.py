"""Run by `test_keras` and `test_tf_keras`: Keras' own datasets as the Sequence of an enqueuer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from enqueuer import SequenceEnqueuer, SequenceSpec, Timing
from tests.adapters.keras_sources import image_iterator, make_dataset
from tests.support.remote import RemoteWorker, free_address

Batch = tuple[np.ndarray, ...]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a remote worker's trainers."""
    found = free_address()
    log = tmp_path_factory.mktemp("remote") / "worker.log"
    with RemoteWorker(found, log, processes=1, arguments=("--drain-timeout", "2")):
        yield found


def batches_of(sequence: Any) -> list[Batch]:
    return [sequence[index] for index in range(len(sequence))]


def received(sequence: Any, processes: bool, **options: Any) -> list[Batch]:
    """Two epochs."""
    with SequenceEnqueuer(sequence, processes, seed=1, **options) as enq:
        enq.start(0 if "bind" in options else 1 if processes else 2)
        return [batch for _ in range(2) for batch in enq.epoch()]


def assert_equal_batches(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def test_keras_own_dataset_is_a_source_for_threads_processes_and_remote_workers(address: str) -> None:
    spec = SequenceSpec("tests.adapters.keras_sources:make_dataset", length=5)
    expected = batches_of(make_dataset(5)) * 2
    assert_equal_batches(received(make_dataset(5), False), expected)
    assert_equal_batches(received(make_dataset(5), True), expected)
    assert_equal_batches(received(spec, False, bind=address, timing=Timing(heartbeat_interval=0.2)), expected)


def test_an_image_data_generator_is_a_source_by_its_spec(address: str) -> None:
    spec = SequenceSpec("tests.adapters.keras_sources:image_iterator", shuffle=True)
    batches = received(spec, True)
    # Every image once an epoch, in an order of its own.
    length = len(image_iterator(shuffle=True))
    epochs = [np.concatenate([y for _, y in part]) for part in (batches[:length], batches[length:])]
    assert all(sorted(labels) == list(range(20)) for labels in epochs)
    assert not np.array_equal(*epochs)
    assert_equal_batches(received(spec, False, bind=address, timing=Timing(heartbeat_interval=0.2)), batches)
    # Threads share one object and NumPy's generator: the same images, turned another way.
    in_threads = received(spec, False)
    assert_equal_batches([(y,) for _, y in in_threads], [(y,) for _, y in batches])


def test_random_layers_draw_the_same_for_an_index_on_any_number_of_workers(address: str) -> None:
    spec = SequenceSpec("tests.adapters.keras_sources:Augmented", length=6)
    expected = received(spec, True)
    assert len({batch[0].tobytes() for batch in expected}) == 12
    remote = received(spec, False, bind=address, timing=Timing(heartbeat_interval=0.2))
    assert_equal_batches(remote, expected)


def test_a_live_image_data_generator_trains_with_threads_and_is_refused_by_processes() -> None:
    with SequenceEnqueuer(image_iterator(shuffle=False)) as enq:
        enq.start(2)
        labels = np.concatenate([y for _, y in enq.epoch()])
    assert list(labels) == list(range(20))
    with SequenceEnqueuer(image_iterator(shuffle=False), True) as enq, pytest.raises(Exception, match="SequenceSpec"):
        enq.start(1)
