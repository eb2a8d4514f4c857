"""A large array is sent from its own memory only if nobody can change that memory meanwhile."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from enqueuer.protocol.batch import Trust, encode_batch

SIZE = 100_000

Array = np.ndarray[Any, Any]


def frame_of(make: Callable[[], object]) -> Any:
    """The one frame of a batch that only a local variable holds, as on a worker."""
    batch = make()
    (frame,) = encode_batch(batch, Trust.LOCAL).frames
    return frame


@pytest.mark.parametrize("times", [1, 2], ids=["unknown layout", "known layout"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: np.zeros(SIZE),
        lambda: np.zeros((10, SIZE // 10), order="F"),
        lambda: np.zeros(SIZE).reshape(10, -1),
        lambda: np.zeros((10, SIZE // 10)).T,
    ],
    ids=["new", "F order", "reshaped", "transposed"],
)
@pytest.mark.parametrize(
    "wrap",
    [lambda array: (array,), lambda array: {"x": [array]}, lambda array: (array, 1.5)],
    ids=["tuple", "nested", "beside a plain value"],
)
def test_a_new_array_is_not_copied(make: Callable[[], Array], wrap: Callable[[Array], object], times: int) -> None:
    for _ in range(times):
        frame = frame_of(lambda: wrap(make()))
        assert isinstance(frame, memoryview)
        assert frame.nbytes == SIZE * 8


@pytest.mark.parametrize("times", [1, 2], ids=["unknown layout", "known layout"])
@pytest.mark.parametrize(
    "view",
    [lambda array: array, lambda array: array[:], lambda array: array.reshape(10, -1)[1:], lambda array: array.T],
    ids=["itself", "view", "view of a view", "transposed"],
)
def test_an_array_that_the_sequence_still_holds_is_copied(view: Callable[[Array], Array], times: int) -> None:
    reused = np.zeros(SIZE)
    for _ in range(times):
        reused[:] = 1
        frame = frame_of(lambda: (view(reused),))
        reused[:] = 2
        assert set(np.frombuffer(frame)) == {1.0}


@pytest.mark.parametrize("times", [1, 2], ids=["unknown layout", "known layout"])
@pytest.mark.parametrize(
    "wrap",
    [lambda held: held, lambda held: (held,), lambda held: {"x": held}, lambda held: (held, 1.5)],
    ids=["itself", "in a tuple", "in a dict", "beside a plain value"],
)
@pytest.mark.parametrize("kind", [tuple, list])
def test_an_array_in_a_container_that_the_sequence_still_holds_is_copied(
    kind: type[Any], wrap: Callable[[Any], object], times: int
) -> None:
    held = kind([np.zeros(SIZE)])
    for _ in range(times):
        held[0][:] = 1
        frame = frame_of(lambda: wrap(held))
        held[0][:] = 2
        assert set(np.frombuffer(frame)) == {1.0}


def test_an_array_in_an_object_array_is_copied() -> None:
    held = np.empty(1, object)
    held[0] = np.zeros(SIZE)
    frame = frame_of(lambda: [held])
    held[0][:] = 2
    assert not np.frombuffer(frame).any()


def test_a_batch_that_is_one_new_array_is_not_copied_and_one_that_is_held_is() -> None:
    held = np.zeros(SIZE)
    addresses: list[int] = []

    def make() -> np.ndarray:
        array = np.zeros(SIZE)
        addresses.append(array.ctypes.data)
        return array

    for _ in range(2):
        assert np.frombuffer(frame_of(make)).ctypes.data == addresses[-1]
        assert not np.shares_memory(np.frombuffer(frame_of(lambda: held)), held)


def test_a_constant_beside_a_new_array_does_not_make_it_a_copy() -> None:
    frame = frame_of(lambda: (np.zeros(SIZE), {"shape": (28, 28), "name": "x"}, (), []))
    assert isinstance(frame, memoryview)


def test_a_view_of_an_array_with_another_view_is_copied() -> None:
    theirs = []

    def make() -> object:
        array = np.zeros(SIZE)
        theirs.append(array[:])
        return [array[:]]

    frame = frame_of(make)
    theirs[0][:] = 2
    assert not np.frombuffer(frame).any()


def test_an_array_that_is_in_the_batch_twice_is_copied() -> None:
    array = np.zeros(SIZE)
    batch = (array, array)
    del array
    frames = [np.frombuffer(frame) for frame in encode_batch(batch, Trust.LOCAL).frames]
    batch[0][:] = 1
    assert not frames[0].any() and not frames[1].any()


def test_an_array_over_foreign_memory_is_copied() -> None:
    memory = bytearray(SIZE)
    frame = frame_of(lambda: (np.frombuffer(memory, "u1"),))
    memory[0] = 1
    assert frame[0] == 0


def test_a_mutable_buffer_is_copied() -> None:
    data = bytearray(SIZE)
    frame = frame_of(lambda: [data])
    data[0] = 1
    assert frame[0] == 0


def test_only_the_frame_keeps_the_memory_of_its_array_alive() -> None:
    array = np.zeros(SIZE)
    alive = weakref.ref(array)
    batch = (array,)
    del array
    (frame,) = encode_batch(batch, Trust.LOCAL).frames
    del batch
    assert alive() is not None
    del frame
    assert alive() is None
