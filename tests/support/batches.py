"""Batches of every kind, and a comparison down to types, dtypes and memory order."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
from numpy.lib.recfunctions import repack_fields

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)

_NUMBER_DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.complex_number_dtypes(endianness="?"),
)
_FLAT_DTYPES = st.one_of(
    _NUMBER_DTYPES,
    hnp.datetime64_dtypes(endianness="?"),
    hnp.timedelta64_dtypes(endianness="?"),
    hnp.byte_string_dtypes(endianness="?"),
    hnp.unicode_string_dtypes(endianness="?"),
)
DTYPES = st.one_of(_FLAT_DTYPES, hnp.array_dtypes(_FLAT_DTYPES), hnp.nested_dtypes(_FLAT_DTYPES, max_leaves=4))


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Any dtype and shape; contiguous in C or F order, strided, reversed or read-only."""
    array = draw(hnp.arrays(draw(DTYPES), draw(SHAPES)))
    match draw(st.sampled_from(["C", "F", "strided", "reversed", "read-only"])):
        case "F":
            return np.asfortranarray(array) if array.ndim else array
        case "strided" if array.ndim:
            return np.repeat(array, 2, axis=-1)[..., ::2]
        case "reversed" if array.ndim:
            return array[::-1]
        case "read-only":
            array.flags.writeable = False
    return array


INTEGERS = st.integers() | st.integers(-(2**200), 2**200)
TEXTS = st.text() | st.just("\ud800 alone")
KEYS = st.recursive(
    st.one_of(st.none(), st.booleans(), INTEGERS, st.floats(allow_nan=False), TEXTS, st.binary()),
    lambda keys: st.lists(keys, max_size=3).map(tuple),
    max_leaves=4,
)
NUMPY_SCALARS = hnp.arrays(DTYPES, ()).map(lambda array: array[()])
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    INTEGERS,
    st.floats(),
    st.complex_numbers(),
    TEXTS,
    st.binary(),
    st.binary().map(bytearray),
    NUMPY_SCALARS,
    TEXTS.map(np.str_),
    st.binary().map(np.bytes_),
    arrays(),
)


@st.composite
def object_arrays(draw: st.DrawFn, elements: st.SearchStrategy[Any]) -> np.ndarray[Any, Any]:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=2))
    array = np.empty(shape, object)
    for index in np.ndindex(shape):
        array[index] = draw(elements)
    return array


BATCHES = st.recursive(
    LEAVES,
    lambda children: st.one_of(
        st.lists(children, max_size=4),
        st.lists(children, max_size=4).map(tuple),
        st.dictionaries(KEYS, children, max_size=4),
        object_arrays(children.filter(lambda child: not (isinstance(child, np.ndarray) and child.ndim == 0))),
    ),
    max_leaves=8,
)


def assert_same(got: Any, sent: Any) -> None:
    """Assert equal values of equal types all the way down; NaNs are equal to each other, 0.0 and -0.0 are not."""
    assert type(got) is type(sent), (type(got), type(sent))
    if isinstance(sent, np.ndarray):
        _assert_same_arrays(got, sent)
    elif isinstance(sent, list | tuple):
        assert len(got) == len(sent)
        for got_child, sent_child in zip(got, sent, strict=True):
            assert_same(got_child, sent_child)
    elif isinstance(sent, dict):
        assert len(got) == len(sent)
        for (got_key, got_child), (sent_key, sent_child) in zip(got.items(), sent.items(), strict=True):
            assert_same(got_key, sent_key)
            assert_same(got_child, sent_child)
    elif isinstance(sent, np.str_ | np.bytes_):
        assert got == sent
    elif isinstance(sent, np.generic):
        assert got.dtype == sent.dtype
        assert got.tobytes() == sent.tobytes()
    elif isinstance(sent, complex):
        assert_same((got.real, got.imag), (sent.real, sent.imag))
    elif isinstance(sent, float):
        assert (got == sent and math.copysign(1, got) == math.copysign(1, sent)) or (got != got and sent != sent)
    else:
        assert got == sent


def _assert_same_arrays(got: np.ndarray[Any, Any], sent: np.ndarray[Any, Any]) -> None:
    assert got.dtype == sent.dtype
    assert got.shape == sent.shape
    assert got.flags.writeable
    if sent.dtype.hasobject:
        assert_same([got[index] for index in np.ndindex(got.shape)], [sent[index] for index in np.ndindex(sent.shape)])
        return
    assert _value_bytes(got) == _value_bytes(sent)
    if sent.flags.forc:
        assert got.flags.c_contiguous == sent.flags.c_contiguous
        assert got.flags.f_contiguous == sent.flags.f_contiguous


def _value_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """The bytes of a value without the padding between fields, which NumPy does not copy."""
    return (repack_fields(array, recurse=True) if array.dtype.names else array).tobytes()
