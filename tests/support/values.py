"""One batch of every kind that a Sequence may return, and their comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.support.sequences import Journaled

_GRID = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
_RECORDS = np.array([(1, 2.5, "a"), (2, 3.5, "bc")], dtype=[("id", "<i4"), ("weight", "<f8"), ("name", "<U3")])
_DTYPES = [*"?bBhHiIlLqQefdgFD", "S3", "U3", "m8[s]", "M8[us]", "V5", ">i4", ">f8"]


def _arrays() -> list[Any]:
    return [
        _GRID,
        np.asfortranarray(_GRID),
        _GRID[:, ::2, ::-1],
        _GRID.transpose(2, 0, 1),
        np.broadcast_to(np.float32(3), (4, 5)),
        np.array(7, np.int16),
        np.empty((0,), np.float32),
        np.empty((3, 0, 2), np.int64),
        _RECORDS,
        np.array(["x", b"y", 1, 2.5, None], dtype=object),
        np.arange(300_000, dtype=np.float64),
        *(np.zeros(3, dtype) if dtype == "V5" else np.arange(3).astype(dtype) for dtype in _DTYPES),
    ]


def _plain() -> list[Any]:
    return [
        1,
        -(2**62),
        1.5,
        float("inf"),
        2 + 3j,
        True,
        "täxt",
        b"bytes\0",
        np.float32(1.5),
        np.int64(-3),
        np.bool_(True),
    ]


def _structures() -> list[Any]:
    inputs, targets, weights = _GRID, np.array([0, 1]), np.array([0.5, 1.0], np.float32)
    return [
        (inputs,),
        (inputs, targets),
        (inputs, targets, weights),
        [inputs, targets],
        ([inputs, inputs * 2], {"a": targets, "b": weights}),
        {"z": inputs, "a": {"nested": [targets, (weights, None)]}, 3: "by number"},
        (None, inputs),
        [[[]], (), {}],
        (inputs.tolist(), "label", 3, None, True, 1.5, b"raw"),
        (inputs, inputs),
    ]


VALUES: list[Any] = [*_arrays(), *_plain(), *_structures()]
FALSY: list[Any] = [0, 0.0, False, "", b"", [], {}, (), np.empty(0), np.array(0), np.float64(0.0)]


@dataclass
class Values(Journaled):
    """A Sequence of the batches above, one for each index."""

    falsy: bool = False

    def __len__(self) -> int:
        return len(FALSY if self.falsy else VALUES)

    def batch(self, index: int) -> Any:
        return (FALSY if self.falsy else VALUES)[index]


def same(sent: Any, got: Any) -> bool:
    """Whether two batches are equal in type, structure, order of keys, dtype (except byte order), shape and content."""
    if type(sent) is not type(got):
        return False
    if isinstance(sent, np.ndarray):
        native = sent.dtype.newbyteorder("=")
        if sent.shape != got.shape or native != got.dtype.newbyteorder("="):
            return False
        return bool(sent.tolist() == got.tolist())
    if isinstance(sent, dict):
        return list(sent) == list(got) and all(same(sent[key], got[key]) for key in sent)
    if isinstance(sent, (list, tuple)):
        return len(sent) == len(got) and all(same(*pair) for pair in zip(sent, got, strict=True))
    if isinstance(sent, np.generic):
        return bool(sent.dtype == got.dtype and sent == got)
    return bool(sent == got)
