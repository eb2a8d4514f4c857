"""Headers that a hostile peer could send: `ProtocolError`, and nothing else, comes out."""

from __future__ import annotations

import pickle
import tracemalloc
from typing import Any

import hypothesis.strategies as st
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings

from enqueuer.errors import ProtocolError
from enqueuer.protocol.batch import Trust, encode_batch, parse_batch
from enqueuer.protocol.batch import format as f
from tests.support.batches import BATCHES

TRUSTS = st.sampled_from(Trust)


class Bomb:
    exploded = False

    def __reduce__(self) -> Any:
        return setattr, (Bomb, "exploded", True)


def header(*tokens: Any) -> bytes:
    return b"".join(msgpack.packb(token) for token in tokens)


def array(dtype: Any = "<f4", shape: Any = (2,), storage: Any = f.INLINE, order: Any = "C") -> list[Any]:
    return [f.ARRAY, storage, dtype, list(shape) if isinstance(shape, tuple) else shape, order]


def build_of_zeros(data: bytes, trust: Trust) -> None:
    """Parse the header; if it is accepted, building must work, too."""
    try:
        plan = parse_batch(data, trust)
    except ProtocolError:
        return
    if plan.nbytes > 1 << 24:
        return  # no message is that long, so the plan would be refused before it is built
    plan.build(bytes(plan.inline_bytes), [bytes(size) for size in plan.frame_bytes])


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_random_bytes_are_a_plan_that_builds_or_a_protocol_error(data: bytes) -> None:
    build_of_zeros(data, Trust.REMOTE)


@settings(deadline=None, max_examples=300)
@given(BATCHES, st.data())
def test_a_mutated_header_is_a_plan_that_builds_or_a_protocol_error(batch: object, data: st.DataObject) -> None:
    mutated = bytearray(encode_batch(batch, Trust.REMOTE).header)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated)))
        cut = data.draw(st.integers(0, 2))
        mutated[at : at + cut] = data.draw(st.binary(max_size=3))
    build_of_zeros(bytes(mutated), Trust.REMOTE)


MAP_KEYS = [b"nd", b"type", b"data", b"kind", b"shape", b"complex"]
TOKENS = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.integers(0, 12), st.floats(), st.binary(),
        st.text(), st.sampled_from(["<f4", "|S0", "<U1", "|O", "<M8[s]", "|V0", "C", "F", "O", "T", "bfloat16"]),
    ),
    lambda children: st.one_of(
        st.lists(children, max_size=5),
        st.dictionaries(st.sampled_from(MAP_KEYS), children, max_size=4),
    ),
    max_leaves=12,
)  # fmt: skip
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 2**31, 2**62, 2**64 - 1, -1]), max_size=4)
NODES = st.one_of(
    TOKENS,
    st.tuples(st.just(f.ARRAY), st.integers(0, 2), TOKENS, SHAPES | TOKENS, st.sampled_from("CFK")).map(list),
    st.tuples(st.just(f.OBJECTS), st.sampled_from("OTS"), SHAPES).map(list),
    st.tuples(st.integers(0, 12), st.integers(0, 4) | TOKENS).map(list),
)


@settings(deadline=None, max_examples=500)
@given(st.lists(NODES, min_size=1, max_size=8))
def test_well_formed_msgpack_of_any_content_is_a_plan_that_builds_or_a_protocol_error(tokens: list[Any]) -> None:
    build_of_zeros(b"".join(msgpack.packb(token, unicode_errors="surrogatepass") for token in tokens), Trust.REMOTE)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "ends too early"),
        ([[f.LIST, 2], 1], "ends too early"),
        ([[f.LIST, 2**61]], "ends too early"),
        ([[f.LIST, 2**63]], "expected a size"),
        ([[f.TUPLE, -1]], "expected a size"),
        ([[f.TUPLE, True], 1], "expected a size"),
        ([1, 2], "more than one batch"),
        ([[99, 1]], "unknown node"),
        ([[]], "unknown node"),
        ([["0", 1]], "unknown node"),
        ([[f.LIST]], "has 2 parts"),
        ([[f.DICT, 1], [f.LIST, 0], 1], "key that is not a plain value"),
        ([[f.DICT, 1], array(), 1], "key that is not a plain value"),
        ([[f.DICT, 2], 1, "a", True, "b"], "same key twice"),
        ([[f.DICT, f.MAX_DICT_ITEMS + 1]], "more than"),
        ([[f.INTEGER, "1"]], "expected bytes"),
        ([[f.NUMPY_STR, b"1"]], "expected str"),
        ([[f.BYTES, 7, 1]], "unknown storage"),
        ([array(["<f4", [1]])], "array of sub-arrays"),
        ([array(["<f4", [0]])], "array of sub-arrays"),
        ([array(order="A")], "unknown memory order"),
        ([array(order=[])], "unknown memory order"),
        ([array(shape=(-1,))], "no shape"),
        ([array(shape=(True,))], "no shape"),
        ([array(shape="ab")], "no shape"),
        ([array(shape=(1,) * 65)], "no shape"),
        ([array(shape=(0, 2**62))], "malformed"),
        ([array(shape=(0, 2**64 - 1))], "malformed"),
        ([array("|O")], "unknown dtype"),
        ([array("O")], "unknown dtype"),
        ([array("f4,O")], "unknown dtype"),
        ([array("(1000000,)f4")], "unknown dtype"),
        ([array("|S0")], "zero-width"),
        ([array("|S99999999999")], "unknown dtype"),
        ([array("|V9999999999")], "cannot be|unknown dtype"),
        ([array("|V4294967295")], "cannot be|unknown dtype"),
        ([array("<M8[1s]")], "unknown dtype"),
        ([array("<f3")], "cannot be"),
        ([array("<M8[3parsecs]")], "cannot be"),
        ([array(["<f4", [2**16, 2**16]])], "unknown dtype"),
        ([array(["|O", [2]])], "unknown dtype"),
        ([array([["a"], ["|O"], [0], [None], 8, False])], "unknown dtype"),
        ([array([["a"], ["<f4"], [-4], [None], 8, False])], "inside"),
        ([array([["a"], ["<f4"], [6], [None], 8, False])], "inside"),
        ([array([["a"], ["<f4"], [2**31 - 2], [None], 8, False])], "inside"),
        ([array([["a"], ["<f4"], [0], [None], 2**40, False])], "cannot be|malformed"),
        ([array([["a", "a"], ["<f4", "<f4"], [0, 4], [None, None], 8, False])], "cannot be"),
        ([array([["a"], ["<f4", "<f4"], [0, 4], [None], 8, False])], "as many names"),
        ([array([[1], ["<f4"], [0], [None], 8, False])], "names of str"),
        ([array([["a"], ["<f4"], [0], [None], "8", False])], "integer size"),
        ([array([["a"], ["<f4"], [0], [1], 8, False])], "titles of str"),
        ([array([5, 5, 5, 5, 8, False])], "as many names"),
        ([array("uint3")], "unknown dtype"),
        ([array("float8_nothing")], "needs the package|unknown dtype"),
        ([[f.OBJECTS, "O", [0, 2**62]]], "malformed"),
        ([[f.OBJECTS, "O", [2**40, 2**40]]], "expected a size"),
        ([[f.OBJECTS, "S", [0]]], "unknown kind"),
        ([[f.OBJECTS, "T", [1]], 5], "expected str|need NumPy 2"),
        ([[f.SCALAR, 0, "|O"]], "unknown dtype"),
        ([{b"nd": False, b"type": "<f4", b"data": b"123"}], "wrong number of bytes"),
        ([{b"nd": False, b"type": "|S3", b"data": b"123"}], "no number's dtype"),
        ([{b"nd": False, b"type": "<f9", b"data": b"123"}], "cannot be"),
        ([{b"complex": True, b"data": "1+"}], "malformed"),
        ([{b"complex": True, b"data": "1" * 65}], "too long"),
        ([{b"complex": True, b"data": 1}], "expected str"),
        ([{"anything": 1}], "no number"),
        ([msgpack.ExtType(5, b"x")], "malformed"),
    ],
    ids=repr,
)
def test_a_header_that_breaks_the_contract_says_how(tokens: list[Any], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        parse_batch(header(*tokens), Trust.REMOTE)


def test_invalid_utf8_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        parse_batch(b"\xa1\xff", Trust.REMOTE)


def test_nesting_of_any_kind_ends_in_a_protocol_error() -> None:
    nested_dtype: Any = "<f4"
    for _ in range(400):
        nested_dtype = [nested_dtype, [1]]
    for data in (
        header([f.LIST, 1]) * 100_000,
        header([f.TUPLE, 1]) * (f.MAX_DEPTH + 1) + header([f.LIST, 0]),
        b"\x91" * 900 + b"\xc0",
        b"\x91" * 5000,
        header([f.ARRAY, 0, nested_dtype, [1], "C"]),
    ):
        with pytest.raises(ProtocolError):
            parse_batch(data, Trust.REMOTE)


def test_more_nodes_than_the_limit_are_refused() -> None:
    with pytest.raises(ProtocolError, match="nodes"):
        parse_batch(header([f.LIST, f.MAX_NODES]) + b"\xc0" * f.MAX_NODES, Trust.REMOTE)


@pytest.mark.parametrize("trust", Trust)
@pytest.mark.parametrize(
    "token",
    [
        {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": pickle.dumps(Bomb())},
        {b"nd": True, b"kind": b"O", b"data": pickle.dumps(Bomb())},
        {b"nd": True, b"type": [["a", "|O"]], b"data": pickle.dumps(Bomb())},
        {b"nd": False, b"type": "|O", b"data": bytes(8)},
        {b"nd": False, b"type": [["a", "|O"]], b"data": bytes(8)},
        {b"nd": 1, b"type": "<f8", b"data": bytes(8)},
    ],
    ids=["object array", "three keys", "structured", "object scalar", "structured scalar", "true"],
)
def test_a_map_that_msgpack_numpy_would_unpickle_is_refused(token: dict[bytes, Any], trust: Trust) -> None:
    for data in (header(token), header([f.LIST, 1], token), header([f.OBJECTS, "O", [1]], token)):
        with pytest.raises(ProtocolError):
            parse_batch(data, trust)
    assert not Bomb.exploded


def test_a_pickle_is_read_only_from_a_local_peer_and_only_when_built() -> None:
    data = pickle.dumps({1, 2})
    tokens = header([f.PICKLE, f.INLINE, len(data)])
    local = parse_batch(tokens, Trust.LOCAL)
    for _ in range(2):  # a header that was accepted from a local peer is not remembered for a remote one
        with pytest.raises(ProtocolError, match="pickle"):
            parse_batch(tokens, Trust.REMOTE)
    assert local.build(data) == {1, 2}
    bomb = pickle.dumps(Bomb())
    parse_batch(header([f.PICKLE, f.FRAME, len(bomb)]), Trust.LOCAL)
    assert not Bomb.exploded


@pytest.mark.parametrize(
    "data",
    [
        header(array(shape=(2**61,))),
        header(array("|V2147483647", (2**31,), f.FRAME)),
        header(array("|V2147483647", (0,))),
        header(array("|V0", (2**62,))),
        header([f.OBJECTS, "O", [2**30, 2**30]]),
        header([f.LIST, 2**61]),
        b"\xdd\xff\xff\xff\xff" * 1000,
        b"\xdc\x04\x00" * 1000,
        b"\xdb\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
    ],
    ids=["array", "frame", "empty array", "no bytes", "objects", "list", "wide", "deep and wide", "str", "map"],
)
def test_parsing_allocates_nothing_for_the_buffers_a_header_claims(data: bytes) -> None:
    tracemalloc.start()
    try:
        build_of_zeros(data, Trust.REMOTE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_a_plan_is_made_once_for_each_header_and_large_headers_are_not_remembered() -> None:
    small, large = header("a"), header("a" * 5000)
    assert parse_batch(small, Trust.REMOTE) is parse_batch(bytes(bytearray(small)), Trust.REMOTE)
    assert parse_batch(small, Trust.REMOTE) is not parse_batch(small, Trust.LOCAL)
    assert parse_batch(large, Trust.REMOTE) is not parse_batch(large, Trust.REMOTE)


def test_writable_aligned_memory_is_wrapped_and_other_memory_is_copied() -> None:
    plan = parse_batch(header(array("<f4", (16,), f.FRAME)), Trust.REMOTE)
    room = np.zeros(64 + 64, "u1")
    start = -room.ctypes.data % 64
    aligned = room[start : start + 64]
    assert np.shares_memory(plan.build(b"", [aligned.data]), aligned)
    aligned.flags.writeable = False
    for frame in (aligned.data, bytes(64), room[start + 1 :][:62].data.tobytes() + b"ab"):
        got = plan.build(b"", [frame])
        assert got.flags.writeable
        assert got.ctypes.data % 64 == 0
        assert not np.shares_memory(got, aligned)
