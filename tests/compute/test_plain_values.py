from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enqueuer.compute.plain_values import Encoder, NotPlainError, decode

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.binary(max_size=20)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.complex_numbers(allow_nan=False)
)
HASHABLE = st.recursive(ATOMS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.sets(HASHABLE, max_size=3)
    ),
    max_leaves=8,
)


def through_the_wire(value, max_bytes=1 << 20):
    return decode(msgpack.unpackb(msgpack.packb(Encoder(max_bytes).encode(value))))


def shape(value):
    """The value together with its types, so that 1, True and 1.0 differ."""
    if isinstance(value, (list, tuple)):
        return type(value), [shape(part) for part in value]
    if isinstance(value, dict):
        return dict, [(shape(key), shape(part)) for key, part in value.items()]
    return type(value), value


@given(VALUES)
def test_plain_values_come_back_equal_type_for_type(value):
    assert shape(through_the_wire(value)) == shape(value)


@pytest.mark.parametrize(
    "value",
    [np.float32(1.5), np.int64(-3), np.bool_(True), np.datetime64("2020-01-01"), np.str_("abc"), np.str_(""), 2**200],
)
def test_numpy_scalars_and_big_integers_come_back_as_they_were(value):
    back = through_the_wire(value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("name", ["<f8", ">i4", "|b1", "<M8[25s]"])
def test_the_types_of_scalars_come_back_as_they_were(name):
    assert through_the_wire(np.dtype(name)) == np.dtype(name)


def test_a_path_comes_back_as_a_path():
    assert through_the_wire(Path("a/b")) == Path("a/b")


class Text(str):
    pass


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Text("a"),
        np.zeros(3),
        range(3),
        "\ud800",
        len,
        np.void(b"ab"),
        np.dtype("O"),
        [object()],
        {1: object()},
    ],
)
def test_other_values_are_refused(value):
    with pytest.raises(NotPlainError):
        Encoder(1 << 20).encode(value)


def test_the_limit_is_on_all_values_together():
    encoder = Encoder(100)
    encoder.encode(b"x" * 50)
    with pytest.raises(NotPlainError):
        encoder.encode(b"x" * 50)
    encoder.encode(b"x" * 10)


@pytest.mark.parametrize("value", ["x" * 200, b"x" * 200, 1 << 2000, [()] * 100, {n: n for n in range(100)}])
def test_large_values_are_refused(value):
    with pytest.raises(NotPlainError):
        Encoder(100).encode(value)


def test_a_value_that_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(NotPlainError):
        Encoder(1 << 20).encode(value)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"tuple": [1], "list": [2]},
        {"tuple": 3},
        {"os.system": "true"},
        {"dict": [[1]]},
        {"dict": [[[], 1]]},
        {"set": [[1]]},
        {"int": 3},
        {"int": "0xzz"},
        {"complex": "ab"},
        {"path": 3},
        {"scalar": ["O", b"12345678"]},
        {"scalar": ["<i4", b"123"]},
        {"scalar": ["(1,2", b"123"]},
        {"scalar": [["<i4"], b"1234"]},
        {"scalar": 7},
        {"dtype": "O"},
        {"dtype": "i4,i4"},
        {"dtype": ["<i4"]},
        object(),
    ],
)
def test_a_form_that_no_encoder_makes_is_refused(form):
    with pytest.raises(NotPlainError):
        decode(form)


def test_a_form_that_contains_itself_is_refused():
    form = []
    form.append(form)
    with pytest.raises(NotPlainError):
        decode(form)


@pytest.mark.parametrize(
    "value",
    [
        {"set": list(range(2_000))},
        {"dict": [[number, 0] for number in range(2_000)]},
        [[0] * 10_000, [0] * 10_000],
        {"scalar": ["i4,i4", b"\0" * 8]},
        {"scalar": ["(2,)i4", b"\0" * 8]},
        {"str_": [[[[]]]]},
        {"path": 3},
        {"int": 3},
    ],
)
def test_a_form_larger_or_other_than_an_encoder_makes_is_refused(value: object) -> None:
    with pytest.raises(NotPlainError):
        decode(value)


@pytest.mark.parametrize("value", [set(range(2_000)), dict.fromkeys(range(2000), 0)])
def test_sets_and_dicts_are_small_since_their_members_may_hash_alike(value: object) -> None:
    with pytest.raises(NotPlainError, match="more than"):
        Encoder(1 << 20).encode(value)
