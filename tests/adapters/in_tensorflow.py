"""Run by `test_tensorflow`."""

from __future__ import annotations

import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from enqueuer import SequenceEnqueuer
from enqueuer.adapters.tensorflow import as_dataset
from enqueuer.runtime.epoch_view import EpochView
from tests.adapters.sources import Failing, Given, Linear, Sizes
from tests.support.frameworks import left_behind
from tests.support.leaks import resources


def indices(dataset: Any) -> list[int]:
    return [round(float(x[0, 0]) * 20) for x, _ in dataset]


def address(tensor: Any) -> int:
    return np.asarray(memoryview(tensor)).ctypes.data


def aligned(shape: tuple[int, ...], offset: int = 0) -> np.ndarray:
    """float32 zeros, ``offset`` bytes beyond a multiple of 64."""
    nbytes = int(np.prod(shape)) * 4
    room = np.zeros(nbytes + 128, np.uint8)
    first = -room.ctypes.data % 64 + offset
    return room[first : first + nbytes].view(np.float32).reshape(shape)


def test_the_spec_is_inferred_from_the_first_batch_which_is_delivered_all_the_same() -> None:
    with SequenceEnqueuer(Linear()) as enq:
        enq.start(2)
        dataset = as_dataset(enq)
        assert dataset.element_spec == (tf.TensorSpec((None, 4), tf.float32), tf.TensorSpec((None, 1), tf.float32))
        assert dataset.cardinality() == 20
        for _ in range(2):
            assert indices(dataset) == list(range(20))


def test_lists_dicts_texts_and_scalars_become_tensors() -> None:
    batch = ({"b": [np.zeros((2, 3)), np.array(["a", "ü"])], "a": "text"}, 4, np.float16(0.5))
    with SequenceEnqueuer(Given(batch)) as enq:
        enq.start(1)
        ((inputs, number, half),) = as_dataset(enq)
    assert inputs["a"] == b"text" and number == 4 and half.dtype == tf.float16
    zeros, texts = inputs["b"]
    assert zeros.shape == (2, 3) and [text.decode() for text in texts.numpy()] == ["a", "ü"]


def test_parts_that_are_none_stay_none() -> None:
    x, weights = np.zeros((2, 3), np.float32), np.ones(2, np.float32)
    with SequenceEnqueuer(Given((x, {"a": None, "b": weights}, None))) as enq:
        enq.start(1)
        dataset = as_dataset(enq)
        ((inputs, rest, nothing),) = dataset
        assert inputs.shape == (2, 3) and nothing is None
        assert rest["a"] is None and rest["b"].numpy().tolist() == [1, 1]
        given = as_dataset(enq, (dataset.element_spec[0], {"a": None, "b": tf.TensorSpec((None,))}, None))
        assert len(list(given)) == 1


def test_a_part_that_is_none_in_some_batches_is_an_error_that_says_so() -> None:
    with SequenceEnqueuer(Given((np.zeros(2), None), (np.zeros(2), np.ones(2)))) as enq:
        enq.start(1)
        with pytest.raises(Exception, match=r"part \[1\] of a batch is no None"):
            list(as_dataset(enq))


def test_a_given_spec_lets_shapes_vary_and_needs_no_batch_in_advance() -> None:
    enq = SequenceEnqueuer(Given(np.zeros((2, 3), np.float32), np.ones((1, 5), np.float32)))
    dataset = as_dataset(enq, tf.TensorSpec((None, None), tf.float32))
    with enq:
        enq.start(1)
        assert [tuple(batch.shape) for batch in dataset] == [(2, 3), (1, 5)]


def test_an_endless_dataset_goes_on_over_epochs() -> None:
    sequence = Linear(3)
    with SequenceEnqueuer(sequence) as enq:
        enq.start(1)
        dataset = as_dataset(enq, endless=True)
        assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
        assert [round(float(x[0, 0]) * 3) for x, _ in dataset.take(8)] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert sequence.ends_count == 2


@pytest.mark.parametrize("taken", [2, 12])
def test_a_loop_that_was_left_is_followed_by_a_new_pass(taken: int) -> None:
    with SequenceEnqueuer(Linear()) as enq:
        enq.start(2)
        dataset = as_dataset(enq).prefetch(tf.data.AUTOTUNE)
        assert indices(dataset.take(taken)) == list(range(taken))
        assert indices(dataset) == list(range(20))


def test_errors_name_the_failed_batch_and_the_missing_start() -> None:
    with SequenceEnqueuer(Failing()) as enq:
        enq.start(2)
        with pytest.raises(tf.errors.OpError, match="batch 13"):
            indices(as_dataset(enq))
    with pytest.raises(RuntimeError, match="call its start"):
        as_dataset(enq)


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_aligned_arrays_become_tensors_without_a_copy_and_others_with_one(
    processes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequence = Given(aligned((64, 4096)), aligned((64, 4096), offset=16))
    received: list[np.ndarray] = []
    with SequenceEnqueuer(sequence, processes) as enq:
        enq.start(1)
        next_batch = EpochView.next_batch

        def note(view: EpochView, only_epoch: int | None = None) -> Any:
            received.append(next_batch(view, only_epoch))
            return received[-1]

        monkeypatch.setattr(EpochView, "next_batch", note)
        dataset = as_dataset(enq, tf.TensorSpec((64, 4096), tf.float32))
        copied = [address(tensor) != array.ctypes.data for tensor, array in zip(dataset, received, strict=False)]
    assert copied == [False, not processes], "arrays from other processes are always aligned"


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_tensors_keep_their_contents_however_long_they_are_held(processes: bool) -> None:
    """Each is checked when it comes and again before it goes; memory is reused many times meanwhile."""
    held: deque[tuple[int, Any]] = deque()
    rng = np.random.default_rng(0)
    with SequenceEnqueuer(Sizes(1500), processes) as enq:
        enq.start(2)
        for index, (x, y) in enumerate(as_dataset(enq).prefetch(2)):
            held.append((index, (x, y, x[::2])))
            if len(held) > 40:
                del held[int(rng.integers(20))]
                check(*held.popleft())
        assert index == 1499
    for index, tensors in held:
        check(index, tensors)


def check(index: int, tensors: tuple[Any, ...]) -> None:
    assert tensors[0].shape == (1 + index % 7 * 500, 16)
    for tensor in tensors:
        assert bool((np.asarray(memoryview(tensor)) == index).all())


def test_nothing_is_left_after_a_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = None
    for taken in (20, 3, 12):
        with SequenceEnqueuer(Linear(), True) as enq:
            enq.start(2)
            assert len(indices(as_dataset(enq).take(taken).prefetch(2))) == taken
        # TensorFlow starts threads of its own, once.
        before = before or resources()
    assert left_behind(before) == []
