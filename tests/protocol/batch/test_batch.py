"""Batches survive the batch codec, or are refused with the name of the part that cannot be carried."""

from __future__ import annotations

import collections
import enum
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from enqueuer.errors import ProtocolError, SequenceError
from enqueuer.protocol.batch import EncodedBatch, Trust, encode_batch, layouts, parse_batch
from enqueuer.protocol.batch.buffers import INLINE_BYTES
from enqueuer.protocol.batch.format import MAX_DEPTH, MAX_DICT_ITEMS, MAX_NODES
from tests.support.batches import BATCHES, assert_same

Point = collections.namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 1


class Unpicklable:
    def __reduce__(self) -> str:
        raise RuntimeError("not me")


def carry(batch: object, trust: Trust = Trust.REMOTE) -> Any:
    return build(encode_batch(batch, trust), trust)


def build(encoded: EncodedBatch, trust: Trust) -> Any:
    plan = parse_batch(encoded.header, trust)
    assert plan.inline_bytes == len(encoded.inline)
    assert plan.frame_bytes == tuple(len(frame) for frame in encoded.frames)
    assert plan.nbytes == encoded.nbytes
    return plan.build(encoded.inline, encoded.frames)


# ---------------------------------------------------------------- round trips


@settings(deadline=None, max_examples=300)
@given(BATCHES)
def test_every_batch_of_plain_values_and_arrays_survives_exactly(batch: object) -> None:
    assert_same(carry(batch), batch)
    assert_same(carry(batch), batch)  # with the layout of the first one


@settings(deadline=None, max_examples=300)
@given(BATCHES)
def test_batches_built_together_equal_those_built_alone(batch: object) -> None:
    encoded = encode_batch(batch, Trust.REMOTE)
    plan = parse_batch(encoded.header, Trust.REMOTE)
    assert plan.is_data
    if not plan.frame_bytes:
        built = plan.build_many(encoded.inline * 3, 3)
        assert len(built) == 3
        for one in built:
            assert_same(one, batch)


def test_arrays_that_are_built_together_are_writable_and_do_not_overlap() -> None:
    batch = {"x": np.arange(6.0).reshape(2, 3), "f": np.asfortranarray(np.arange(4).reshape(2, 2)), "n": np.array(7)}
    encoded = encode_batch(batch, Trust.REMOTE)
    first, second = parse_batch(encoded.header, Trust.REMOTE).build_many(encoded.inline * 2, 2)
    for name in batch:
        first[name][...] = -1
        assert first[name].flags.aligned and not np.shares_memory(first[name], second[name])
    assert_same(second, batch)


@pytest.mark.parametrize("dimensions", [31, 32, 63, 64])
def test_arrays_of_as_many_dimensions_as_numpy_has_are_built_together_too(dimensions: int) -> None:
    try:
        batch = (np.arange(2).reshape([2] + [1] * (dimensions - 1)),)
    except ValueError:
        pytest.skip("more dimensions than this NumPy has")
    encoded = encode_batch(batch, Trust.REMOTE)
    built = parse_batch(encoded.header, Trust.REMOTE).build_many(encoded.inline * 3, 3)
    assert len(built) == 3
    for one in built:
        assert_same(one, batch)


def test_a_plan_with_a_pickle_is_not_data() -> None:
    plan = parse_batch(encode_batch((Point(1, 2),), Trust.LOCAL).header, Trust.LOCAL)
    assert not plan.is_data


@pytest.mark.parametrize(
    "batch",
    [
        None,
        (),
        [],
        {},
        (None, [None]),
        ([1, 2], (1, 2), [(), []]),
        {1: "int", "1": "str", b"1": "bytes", (1, ("a", None)): "tuple", None: "none", 2.5: "float"},
        {True: "bool"},
        {np.float32(2): 1, np.str_("a"): 2, np.int64(7): 3},
        (2**63, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 10**400, True, False),
        (float("inf"), float("-inf"), float("nan"), -0.0, complex(-0.0, float("nan"))),
        (np.float64(1.5), np.float16(2), np.bool_(True), np.uint8(3), np.longdouble(1), np.complex64(1j)),
        (np.datetime64("2024-02-29T12", "h"), np.timedelta64(3, ("s", 25)), np.datetime64("NaT", "s")),
        (np.void(b"abc"), np.zeros(2, "i4,f8")[0], np.str_("ends with\0"), np.bytes_(b"\0")),
        (bytearray(b"mutable"), b"x" * (INLINE_BYTES + 1), bytearray(INLINE_BYTES + 1), "\ud800"),
    ],
    ids=lambda batch: repr(batch)[:40],
)
def test_plain_values_keep_their_types_and_order(batch: object) -> None:
    assert_same(carry(batch), batch)


@pytest.mark.parametrize(
    "array",
    [
        np.array(5.0),
        np.empty((0, 3), "f4"),
        np.empty((3, 0, 2), "M8[ns]", order="F"),
        np.arange(12, dtype=">f8").reshape(3, 4),
        np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
        np.arange(24).reshape(2, 3, 4).transpose(0, 2, 1),
        np.broadcast_to(np.arange(3), (4, 3)),
        np.array(["ä", "longer"]),
        np.array([b"a", b"\0b"]),
        np.array(["2024-01-01", "NaT"], "M8[25s]"),
        np.zeros(3, [("a", "<i2"), ("b", [("c", "S3"), ("d", ">f4", (2, 3))])]),
        np.zeros(3, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
        np.zeros(3, np.dtype({"names": ["b", "a"], "formats": ["i4", "i4"], "offsets": [8, 0], "itemsize": 20})),
        np.zeros(2, []),
        np.zeros(3, "V5"),
        np.zeros(3, "V0"),
        np.zeros(4, "g"),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}"[:60],
)
def test_arrays_keep_dtype_shape_and_memory_order(array: np.ndarray[Any, Any]) -> None:
    assert_same(carry((array, {"x": array})), (array, {"x": array}))


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_travel_in_frames_of_their_own_and_arrive_aligned_and_writable(order: Any) -> None:
    images = np.asarray(np.random.default_rng(1).random((8, 64, 65), np.float32), order=order)
    encoded = encode_batch((images, np.arange(8)), Trust.REMOTE)
    assert [len(frame) for frame in encoded.frames] == [images.nbytes]
    got, labels = build(encoded, Trust.REMOTE)
    assert_same((got, labels), (images, np.arange(8)))
    assert got.ctypes.data % 64 == 0


def test_a_large_array_of_a_dtype_without_a_buffer_interface_travels_too() -> None:
    days = np.arange(INLINE_BYTES).astype("M8[D]")
    assert_same(carry([days]), [days])
    assert_same(carry([days.reshape(2, -1).T]), [days.reshape(2, -1).T])


def test_small_arrays_travel_inline() -> None:
    encoded = encode_batch((np.zeros(INLINE_BYTES, "u1"), np.zeros(INLINE_BYTES + 1, "u1")), Trust.LOCAL)
    assert len(encoded.inline) == INLINE_BYTES
    assert [len(frame) for frame in encoded.frames] == [INLINE_BYTES + 1]


def test_a_batch_that_was_built_shares_nothing_with_the_next_one() -> None:
    encoded = encode_batch(([1, 2], {"a": []}, bytearray(b"ab"), np.zeros(2), np.array(["a"], object)), Trust.REMOTE)
    plan = parse_batch(encoded.header, Trust.REMOTE)
    first = plan.build(encoded.inline)
    first[0].append(3)
    first[1]["a"].append(4)
    first[2].extend(b"c")
    first[3][:] = 7
    first[4][0] = "b"
    assert_same(plan.build(encoded.inline), ([1, 2], {"a": []}, bytearray(b"ab"), np.zeros(2), np.array(["a"], object)))


def test_batches_of_one_structure_share_their_header_and_others_do_not() -> None:
    def header(*arrays: np.ndarray[Any, Any]) -> bytes:
        return encode_batch(arrays, Trust.LOCAL).header

    assert header(np.zeros((2, 3)), np.ones(2)) == header(np.ones((2, 3)), np.zeros(2))
    different = [np.zeros((2, 3)), np.zeros((3, 2)), np.zeros((2, 3), "f4"), np.zeros((2, 3), ">f8")]
    different.append(np.zeros((2, 3), order="F"))
    assert len({header(array) for array in different}) == len(different)


def test_object_arrays_keep_their_shape_and_may_hold_lists_and_ragged_arrays() -> None:
    array = np.empty((2, 2), object)
    array[0, 0], array[0, 1], array[1, 0], array[1, 1] = "text", [1, 2], np.arange(3), None
    got = carry({"x": array})["x"]
    assert got.shape == (2, 2)
    assert_same(got, array)


@pytest.mark.skipif(not hasattr(np, "dtypes") or not hasattr(np.dtypes, "StringDType"), reason="NumPy 1")
def test_arrays_of_variable_width_strings_survive() -> None:
    array = np.array([["a", "longer than any short string could be"], ["", "ä"]], np.dtypes.StringDType())
    got = carry((array,))[0]
    assert got.dtype == array.dtype
    assert got.tolist() == array.tolist()
    got[0, 0] = "changed"
    assert carry((array,))[0][0, 0] == "a"


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "int4"])
def test_types_of_ml_dtypes_travel_by_name(name: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype = np.dtype(getattr(ml_dtypes, name))
    batch = (np.arange(6).astype(dtype).reshape(2, 3), np.array(1, dtype)[()], np.zeros(2, [("a", dtype)]))
    assert_same(carry(batch), batch)


def test_a_type_of_ml_dtypes_without_that_package_is_a_protocol_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ProtocolError, match="needs the package ml_dtypes"):
        parse_batch(b"\x95\x03\x00\xa8bfloat16\x91\x03\xa1C", Trust.REMOTE)


def test_memory_mapped_arrays_arrive_as_plain_arrays(tmp_path: Any) -> None:
    path = tmp_path / "data"
    np.arange(10.0).tofile(path)
    got = carry([np.memmap(path, mode="r")[80 // 8 - 10 :].view("f8")])
    assert_same(got, [np.arange(10.0)])


# ---------------------------------------------------------------- tensors


@pytest.fixture
def tensors() -> Iterator[types.SimpleNamespace]:
    class Tensor:
        """Like torch's: an array only after detach() and cpu()."""

        def __init__(self, array: np.ndarray[Any, Any], ready: bool = False) -> None:
            self.array, self.ready = array, ready

        def detach(self) -> Tensor:
            return self

        def cpu(self) -> Tensor:
            return Tensor(self.array, ready=True)

        def numpy(self) -> np.ndarray[Any, Any]:
            if not self.ready:
                raise TypeError("on a device")
            return self.array

        def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray[Any, Any]:
            return self.cpu().numpy()

    class EagerTensor:
        def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray[Any, Any]:
            return np.arange(3)

    class Ragged:
        def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray[Any, Any]:
            raise ValueError("ragged")

    Tensor.__module__, EagerTensor.__module__, Ragged.__module__ = "torch", "tensorflow.python.ops", "tensorflow"
    yield types.SimpleNamespace(Tensor=Tensor, EagerTensor=EagerTensor, Ragged=Ragged)


def test_tensors_arrive_as_numpy_arrays(tensors: types.SimpleNamespace) -> None:
    class Parameter(tensors.Tensor):  # type: ignore[misc,name-defined]
        """A user's own subclass."""

    batch = (tensors.Tensor(np.eye(2)), {"y": tensors.EagerTensor()}, [Parameter(np.ones(1))])
    for trust in Trust:
        assert_same(carry(batch, trust), (np.eye(2), {"y": np.arange(3)}, [np.ones(1)]))


def test_a_tensor_that_cannot_become_an_array_is_named(tensors: types.SimpleNamespace) -> None:
    with pytest.raises(SequenceError, match=r"batch\[1\] is a tensorflow\..*Ragged and cannot become .*: ragged"):
        encode_batch((1, tensors.Ragged()), Trust.LOCAL)


# ---------------------------------------------------------------- other objects


@pytest.mark.parametrize(
    "value",
    [
        Point(1, np.arange(3)),
        collections.OrderedDict(a=1),
        {1, 2},
        Colour.RED,
        {frozenset({1}): 2},
        np.array([{1}], object),
        np.zeros(2, [("a", object)]),
        np.zeros(2, "i4,f8").view(np.recarray),
        range(3),
        {b"a key that is longer than a header's values may be" * INLINE_BYTES: 1},
        {number: number for number in range(MAX_DICT_ITEMS + 1)},
    ],
    ids=lambda value: repr(value)[:30],
)
def test_local_processes_carry_any_object(value: Any) -> None:
    got = carry((value, 1), Trust.LOCAL)
    assert got[1] == 1
    assert type(got[0]) is type(value)
    assert repr(got[0]) == repr(value)


def test_masked_arrays_keep_their_mask_between_local_processes() -> None:
    masked = np.ma.masked_array([1, 2], [True, False])
    got = carry(masked, Trust.LOCAL)
    assert got.mask.tolist() == [True, False]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (({"mask": {1}},), r"batch\[0\]\['mask'\] is a builtins\.set and cannot be carried to the trainer: .*arrays"),
        ([Point(1, 2)], r"batch\[0\] is a .*Point and"),
        (np.ma.masked_array([1], [True]), r"batch is a numpy.*MaskedArray and"),
        ({"c": [0, Colour.RED]}, r"batch\['c'\]\[1\] is a .*Colour and"),
        ({"o": np.array([None, {1}], object)}, r"batch\['o'\]\[\(1,\)\] is a builtins.set and"),
        ((np.zeros(2, [("a", object)]),), r"batch\[0\] is an array of dtype .* and"),
        ((np.zeros(2, [("a", object)])[0],), r"batch\[0\] is a NumPy scalar of dtype .* and"),
        ({(1, frozenset()): 1}, r"batch is a dict with the key \(1, frozenset\(\)\) and"),
        (dict.fromkeys(range(MAX_DICT_ITEMS + 1), 1), r"batch is a dict with more than \d+ keys and"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_remote_workers_carry_no_other_object_and_the_error_names_the_field(batch: object, message: str) -> None:
    with pytest.raises(SequenceError, match=message):
        encode_batch(batch, Trust.REMOTE)


def test_ordered_and_default_dicts_from_remote_workers_arrive_as_dicts() -> None:
    ordered = collections.OrderedDict([("b", np.arange(2)), ("a", 1)])
    counted = collections.defaultdict(list, x=[1])
    assert_same(carry((ordered, counted)), ({"b": np.arange(2), "a": 1}, {"x": [1]}))


def test_an_object_that_cannot_be_pickled_is_named_with_the_reason() -> None:
    with pytest.raises(SequenceError, match=r"batch\[0\] is a .*Unpicklable and .*: RuntimeError: not me"):
        encode_batch([Unpicklable()], Trust.LOCAL)


def test_any_object_comes_from_workers_whose_key_the_trainers_owner_trusts() -> None:
    assert carry([{1, 2}, Ellipsis], Trust.KEYED) == [{1, 2}, Ellipsis]
    encoded = encode_batch([{1, 2}], Trust.KEYED)
    with pytest.raises(ProtocolError, match="pickle"):
        parse_batch(encoded.header, Trust.REMOTE)


def test_a_large_pickle_travels_in_a_frame() -> None:
    value = {frozenset({"key"}): "x" * INLINE_BYTES}
    encoded = encode_batch([value], Trust.LOCAL)
    assert len(encoded.frames) == 1
    assert build(encoded, Trust.LOCAL) == [value]


# ---------------------------------------------------------------- limits


def test_a_cycle_from_a_remote_worker_is_a_sequence_error() -> None:
    in_list: list[Any] = [np.zeros(1)]
    in_list += [in_list, in_list]
    in_dict: dict[str, Any] = {}
    in_dict["self"] = (in_dict,)
    in_array = np.empty(1, object)
    in_array[0] = in_array
    for cycle in (in_list, in_dict, in_array):
        with pytest.raises(SequenceError, match="contains itself"):
            encode_batch(cycle, Trust.REMOTE)


def test_a_cycle_from_a_local_worker_arrives_as_it_is() -> None:
    cycle: list[Any] = [np.zeros(1)]
    cycle += [cycle, cycle]
    carried = carry(cycle, Trust.LOCAL)
    assert carried[1] is carried
    assert carried[2] is carried
    assert carried[0].flags.writeable


def test_the_deepest_batch_that_can_be_sent_can_be_received() -> None:
    batch: Any = 2**100
    for _ in range(MAX_DEPTH):
        batch = [batch]
    assert_same(carry(batch), batch)
    with pytest.raises(SequenceError, match="nested deeper"):
        encode_batch([batch], Trust.REMOTE)


def test_the_longest_batch_that_can_be_sent_can_be_received() -> None:
    batch = [None] * (MAX_NODES - 1)
    assert carry(batch) == batch
    with pytest.raises(SequenceError, match=rf"more than {MAX_NODES} values .* make arrays of them"):
        encode_batch([*batch, None], Trust.REMOTE)


def test_a_batch_that_nests_shared_values_exponentially_is_refused_in_time() -> None:
    batch: Any = []
    for _ in range(40):
        batch = [batch, batch]
    with pytest.raises(SequenceError, match="more than"):
        encode_batch(batch, Trust.REMOTE)


def test_the_number_of_known_layouts_is_bounded() -> None:
    for size in range(3 * layouts._MAX_LAYOUTS):
        encode_batch((np.empty(size, "u1"),), Trust.LOCAL)
    assert len(layouts.known_layouts) <= layouts._MAX_LAYOUTS
