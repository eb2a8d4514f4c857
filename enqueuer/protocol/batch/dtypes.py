"""NumPy dtypes as plain values and back; no unchecked text of a peer reaches ``numpy.dtype()``.

A description is one of
    "<f4", "|S7", "<M8[25s]"                              a simple dtype, in the spelling of ``dtype.str``,
    "bfloat16"                                            a type of ``ml_dtypes``, by name,
    [base, shape]                                         a sub-array (only as a field),
    [names, formats, offsets, titles, itemsize, aligned]  a structured type; formats are descriptions, titles or nil.
Metadata is not carried.
"""

from __future__ import annotations

import importlib
import math
import re
from reprlib import repr as short  # of hostile values: plain repr() recurses as deep as they are nested
from typing import Any, TypeAlias

import numpy as np

from enqueuer.errors import ProtocolError
from enqueuer.protocol.batch.format import MAX_DIMENSIONS

Description: TypeAlias = str | list[Any]

# No object type. numpy.dtype() reads comma-separated, repeated and deprecated spellings too; these patterns do not.
_NUMBERS = r"b1|[iufc]\d{1,2}"
_DATES = r"[mM]8(?:\[\d{0,9}[A-Za-z]{1,7}\])?"
_NUMBER = re.compile(rf"[<>|](?:{_NUMBERS})", re.ASCII)
_SCALAR = re.compile(rf"[<>|](?:{_NUMBERS}|{_DATES})", re.ASCII)
_SIMPLE = re.compile(rf"[<>|](?:{_NUMBERS}|{_DATES}|[SUV]\d{{1,10}})", re.ASCII)
_EXTENSION = re.compile(r"bfloat16|float[468]_\w{3,16}|u?int[124]", re.ASCII)
_MAX_FIELDS = 1024
_MAX_NESTING = 16


def has_bytes(dtype: np.dtype[Any], nesting: int = 0) -> bool:
    """Whether bytes and a description restore an array of this dtype: it holds no references to objects."""
    if nesting > _MAX_NESTING:
        return False
    if dtype.names is not None:
        fields = _fields(dtype)
        titles = [field[2] for field in fields if len(field) == 3]
        return (
            len(fields) <= _MAX_FIELDS
            and all(type(title) is str for title in titles)
            and all(has_bytes(field[0], nesting + 1) for field in fields)
        )
    if dtype.subdtype is not None:
        return has_bytes(dtype.subdtype[0], nesting + 1)
    if dtype.isbuiltin == 2:
        return _EXTENSION.fullmatch(dtype.name) is not None
    return _SIMPLE.fullmatch(dtype.str) is not None and np.dtype(dtype.str) == dtype


def is_string_dtype(dtype: np.dtype[Any]) -> bool:
    """Whether the dtype is NumPy 2's variable-width string without a missing-value object."""
    return dtype.kind == "T" and dtype == string_dtype()


def string_dtype() -> Any:
    """The dtype of NumPy 2's variable-width strings. Raises `ProtocolError` under NumPy 1."""
    try:
        return np.dtypes.StringDType()
    except AttributeError:
        raise ProtocolError("variable-width strings need NumPy 2") from None


def describe_dtype(dtype: np.dtype[Any]) -> Description:
    """The description of a dtype for which `has_bytes` is true."""
    if dtype.names is not None:
        fields = _fields(dtype)
        formats = [describe_dtype(field[0]) for field in fields]
        offsets = [field[1] for field in fields]
        titles = [field[2] if len(field) == 3 else None for field in fields]
        return [list(dtype.names), formats, offsets, titles, dtype.itemsize, dtype.isalignedstruct]
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [describe_dtype(base), list(shape)]
    return str(dtype.name if dtype.isbuiltin == 2 else dtype.str)


def parse_dtype(description: object) -> np.dtype[Any]:
    """The dtype of a description. Raises `ProtocolError`, and nothing else."""
    try:
        dtype: np.dtype[Any] = _parse(description, 0)
    except (TypeError, ValueError, OverflowError, MemoryError) as error:
        raise ProtocolError(f"dtype {short(description)} cannot be: {error!s:.120}") from None
    return dtype


def parse_number_dtype(description: object) -> np.dtype[Any]:
    """The dtype of a NumPy bool or number. Raises `ProtocolError` for any other description."""
    if type(description) is not str or not _NUMBER.fullmatch(description):
        raise ProtocolError(f"{short(description)} is no number's dtype")
    return parse_dtype(description)


def is_scalar_dtype(dtype: np.dtype[Any]) -> bool:
    """Whether `parse_scalar_dtype` restores the dtype from ``dtype.str``."""
    return _SCALAR.fullmatch(dtype.str) is not None and np.dtype(dtype.str) == dtype


def parse_scalar_dtype(description: object) -> np.dtype[Any]:
    """The dtype of a NumPy bool, number, date or time span. Raises `ProtocolError` for any other description."""
    if type(description) is not str or not _SCALAR.fullmatch(description):
        raise ProtocolError(f"{short(description)} is no scalar's dtype")
    return parse_dtype(description)


def parse_shape(shape: object) -> tuple[int, ...]:
    """The shape as a tuple. Raises `ProtocolError` unless it is a list of few enough sizes."""
    if type(shape) is not list or len(shape) > MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise ProtocolError(f"{short(shape)} is no shape")
    return tuple(shape)


def _fields(dtype: np.dtype[Any]) -> list[tuple[Any, ...]]:
    assert dtype.fields is not None and dtype.names is not None
    return [dtype.fields[name] for name in dtype.names]


def _parse(description: object, nesting: int) -> Any:
    if nesting > _MAX_NESTING:
        raise ProtocolError("a dtype is nested too deeply")
    if type(description) is str:
        # NumPy's own spelling only: NumPy 1 lets a size that is too large wrap around, even below zero.
        if _SIMPLE.fullmatch(description) and (dtype := np.dtype(description)).str == description:
            return dtype
        if _EXTENSION.fullmatch(description):
            return _extension(description)
    elif type(description) is list and len(description) == 2:
        shape = parse_shape(description[1])
        # One element of a larger sub-array would not fit into any frame.
        if math.prod(shape) < 1 << 31:
            return np.dtype((_parse(description[0], nesting + 1), shape))
    elif type(description) is list and len(description) == 6:
        return _parse_structured(description, nesting)
    raise ProtocolError(f"unknown dtype {short(description)}")


def _parse_structured(description: list[Any], nesting: int) -> Any:
    *columns, itemsize, aligned = description
    if not all(type(column) is list and len(column) == len(description[0]) for column in columns):
        raise ProtocolError("a structured dtype has as many names as formats, offsets and titles")
    names, formats, offsets, titles = columns
    if not all(type(name) is str for name in names) or not all(type(at) is int for at in offsets):
        raise ProtocolError("a structured dtype has names of str and offsets of int")
    if not all(title is None or type(title) is str for title in titles):
        raise ProtocolError("a structured dtype has titles of str")
    if type(itemsize) is not int or type(aligned) is not bool:
        raise ProtocolError("a structured dtype has an integer size and says whether it is aligned")
    parsed = [_parse(item, nesting + 1) for item in formats]
    if not all(0 <= at <= itemsize - field.itemsize for at, field in zip(offsets, parsed, strict=True)):
        raise ProtocolError("a structured dtype has its fields inside it")
    layout: Any = {"names": names, "formats": parsed, "offsets": offsets, "titles": titles, "itemsize": itemsize}
    return np.dtype(layout, align=aligned)


def _extension(name: str) -> Any:
    try:
        return np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
    except (ImportError, AttributeError):
        raise ProtocolError(f"a batch has dtype {name}, which needs the package ml_dtypes here") from None
