"""Arrays that share memory with one another do so in a worker, too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from enqueuer.protocol.fingerprint import Fingerprint
from enqueuer.protocol.live_object import pack_object, unpack_object

LENGTHS = pytest.mark.parametrize("length", [16, 40_000], ids=["in the stream", "beside it"])


def travelled(value: Any) -> Any:
    return unpack_object([memoryview(bytearray(part)) for part in pack_object(value)])


def rows(length: int) -> np.ndarray[Any, Any]:
    return np.arange(4.0 * length).reshape(4, length)


PAIRS = {
    "a slice": lambda whole: (whole, whole[1:3]),
    "a slice first": lambda whole: (whole[1:3], whole),
    "two slices": lambda whole: (whole[:3], whole[1:]),
    "another shape": lambda whole: (whole, whole.reshape(-1)),
    "transposed": lambda whole: (whole.T, whole),
    "backwards": lambda whole: (whole[::-1], whole[1:]),
    "a column": lambda whole: (whole[:, 3], whole[:2]),
    "another type": lambda whole: (whole.view(np.uint8), whole),
    "windows": lambda whole: (np.lib.stride_tricks.sliding_window_view(whole, 2, axis=0, writeable=True), whole),
    "of one bytearray": lambda whole: (lambda memory: (np.frombuffer(memory), np.frombuffer(memory, np.int64)))(
        bytearray(whole.tobytes())
    ),
    "a matrix": lambda whole: (whole.view(np.matrix), whole),
}


@LENGTHS
@pytest.mark.parametrize("kind", PAIRS)
def test_a_write_to_one_is_seen_in_the_other(kind: str, length: int) -> None:
    pair = PAIRS[kind](rows(length))
    one, other = travelled(pair)
    assert [type(one), type(other)] == [type(array) for array in pair]
    assert np.array_equal(one, pair[0]) and np.array_equal(other, pair[1])
    assert np.shares_memory(one, other)
    one[...] = 7
    pair[0][...] = 7
    assert np.array_equal(other, pair[1])


def test_the_common_memory_travels_once_and_no_more_of_it_than_is_held() -> None:
    whole = rows(100_000)
    once = sum(part.nbytes for part in pack_object([whole]))
    assert sum(part.nbytes for part in pack_object([whole, whole[0], whole.T, *whole])) < once + 2_000
    assert sum(part.nbytes for part in pack_object([whole[0, :50_000], whole[0, 10:]])) < once / 4 + 2_000


def test_arrays_that_do_not_overlap_travel_alone() -> None:
    whole = rows(10_000)
    apart = [whole[0, :5_000], whole[0, 5_000:], whole[2]]
    columns = [np.ascontiguousarray(rows(10_000))[:, place] for place in (0, 1)]
    interleaved = whole.reshape(-1)[::2], whole.reshape(-1)[1::2]
    for arrays in (apart, columns, interleaved):
        back = travelled(arrays)
        assert all(map(np.array_equal, back, arrays))
        assert not np.shares_memory(back[0], back[1])
        assert all(array.flags.writeable for array in back)


def test_a_view_that_may_not_be_written_to_stays_so() -> None:
    whole = rows(10)
    view = whole[1:]
    view.flags.writeable = False
    one, other = travelled((whole, view))
    assert one.flags.writeable and not other.flags.writeable
    one[...] = 5
    assert other[0, 0] == 5


def test_structured_rows_and_their_fields_share_memory() -> None:
    table = np.zeros(5, [("x", "f4"), ("name", "U3")])
    one, names = travelled((table, table["name"]))
    one[2] = (1.5, "ab")
    assert names[2] == "ab"


def test_arrays_of_objects_and_empty_ones_travel_as_ever() -> None:
    objects = np.array([{"a": 1}, None], object)
    one, other, empty = travelled((objects, objects[:1], np.zeros((0, 3))))
    assert one[0] is other[0] and empty.shape == (0, 3)


def test_an_unchanged_object_with_views_has_the_same_parts_and_fingerprint() -> None:
    whole = rows(10_000)
    held = {"whole": whole, "first": whole[0], "names": [str(number) for number in range(20_000)]}
    packed = [bytes(part) for part in pack_object(held)]
    fingerprint = Fingerprint.of(held)
    assert [bytes(part) for part in pack_object(held)] == packed
    assert fingerprint is not None
    buffers = fingerprint.compare(held)
    assert buffers is not None and [bytes(part) for part in buffers] == packed[1:]
    held["first"] = whole[0].copy()
    assert fingerprint.compare(held) is None


def test_tensors_and_arrays_of_one_memory_share_it() -> None:
    torch = pytest.importorskip("torch")
    whole = torch.zeros(4, 1_000)
    tensor, row, array = travelled((whole, whole[1], whole.numpy()))
    tensor[1, 0], array[1, 1] = 3, 4
    assert row[:2].tolist() == [3, 4]
