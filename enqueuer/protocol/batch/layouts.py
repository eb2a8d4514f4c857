"""Layouts: the short cut for batches that differ only in the bytes of their arrays.

An outline is the structure, dtypes, shapes and strides of a batch that consists of arrays in tuples, lists and dicts.
Batches of equal outlines have the same layout: the same header, and each buffer in the same storage.

    encode_batch ─► outline_of ─► known_layouts ── found ──► copy the arrays' bytes: no walk, no header to make
                                        └───────── else ───► walk node by node (`encoder.py`), then `remember`

`encoder.py` and `template.py` call this file; it calls neither.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from enqueuer.protocol.batch.buffers import Piece

_MAX_LAYOUTS = 256
_MAX_ARRAYS = 64
_MAX_DEPTH = 8

Outline: TypeAlias = Hashable


@dataclass(frozen=True, slots=True)
class Layout:
    """The header and the storages of all batches of one outline; ``nbytes`` is the size of such a batch, encoded."""

    header: bytes
    storages: tuple[int, ...]
    all_inline: bool
    nbytes: int


class _IrregularError(Exception):
    """The batch holds more than plain arrays in tuples, lists and dicts, or too many of them, and has no outline."""


# The layouts of the outlines seen lately; None is never a key. Only `remember` writes it. Threads may encode at the
# same time: at worst both make the same layout, or one is made again.
known_layouts: dict[Outline | None, Layout] = {}


def remember(outline: Outline, layout: Layout) -> None:
    """Keep the layout for the next batches of this outline; a full cache is emptied first."""
    if len(known_layouts) >= _MAX_LAYOUTS:
        known_layouts.clear()
    known_layouts[outline] = layout


def outline_of(batch: object, arrays: list[Piece]) -> Outline | None:
    """The outline, or None for a batch without one. Appends the batch's arrays to ``arrays`` in pre-order."""
    parts: list[Any] = []
    try:
        _add_outline(batch, parts, arrays, 0)
    except _IrregularError:
        return None
    return tuple(parts)


def _add_outline(value: Any, parts: list[Any], arrays: list[Piece], depth: int) -> None:
    kind = type(value)
    if kind is np.ndarray:
        arrays.append(value)
        parts += (value.dtype, value.shape, value.strides)
        return
    if depth > _MAX_DEPTH or len(arrays) > _MAX_ARRAYS:
        raise _IrregularError
    if kind is tuple or kind is list:
        parts += (kind, len(value))
        for child in value:
            _add_outline(child, parts, arrays, depth + 1)
    elif kind is dict:
        parts += (kind, len(value))
        for key, child in value.items():
            if type(key) is not str:  # 1, True and 1.0 are one key here and three in a header
                raise _IrregularError
            parts.append(key)
            _add_outline(child, parts, arrays, depth + 1)
    else:
        raise _IrregularError
