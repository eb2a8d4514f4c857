"""Batch templates: empty batches in shared memory, shaped like the last one, for a Sequence with ``getitem_into``.

    BatchTemplate.of(last batch) ─► take_buffer(arena) ─► the Sequence fills it ─► BatchBuffer.encode()

The batch is computed in the memory that the trainer reads, without a copy into a block.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from enqueuer.memory.arena import Arena, Block, aligned_offsets
from enqueuer.protocol.batch import format as f
from enqueuer.protocol.batch.encoder import EncodedBatch
from enqueuer.protocol.batch.format import Batch
from enqueuer.protocol.batch.layouts import known_layouts, outline_of

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(slots=True)
class BatchBuffer:
    """An empty batch for a Sequence to fill. The caller either encodes or releases it, once.

    ``batch`` is not initialised, and its large arrays are views of the block. ``arrays`` are all its arrays, ``small``
    the inline ones.
    """

    template: BatchTemplate
    batch: Batch
    arrays: Sequence[Array]
    small: Sequence[Array]
    frames: tuple[memoryview, ...]
    block: Block

    @property
    def is_unchanged(self) -> bool:
        """Whether the batch still holds its own arrays, each in its place: user code may change a list or a dict."""
        return self.template.fits(self.batch) and all(map(operator.is_, _arrays_of(self.batch), self.arrays))

    def encode(self) -> EncodedBatch:
        """Encode the filled batch. Nothing may write to it afterwards."""
        inline = b"".join([array.tobytes("A") for array in self.small])
        header = self.template.header
        nbytes = len(header) + len(inline) + sum(map(len, self.frames))
        return EncodedBatch(header, inline, self.frames, nbytes, self.block)

    def release(self) -> None:
        """Free the block without encoding the batch."""
        self.block.release()


class BatchTemplate:
    """Makes empty batches with the structure, shapes, dtypes and memory orders of one batch."""

    def __init__(self, batch: Batch, header: bytes, arrays: Sequence[Array], storages: Sequence[int]) -> None:
        self._structure = _without_arrays(batch)
        self.header = header
        self._storages = tuple(storages)
        self._shapes = [(array.shape, array.dtype, _order(array)) for array in arrays]
        self._sizes = [array.nbytes for array, storage in zip(arrays, storages, strict=True) if storage == f.FRAME]
        self._starts, self._nbytes = aligned_offsets(self._sizes)

    @classmethod
    def of(cls, batch: Batch) -> BatchTemplate | None:
        """The template of a batch that was just encoded; None unless it is plain arrays, at least one of them large."""
        arrays: list[Any] = []
        layout = known_layouts.get(outline_of(batch, arrays))
        if layout is None or f.FRAME not in layout.storages:
            return None
        return cls(batch, layout.header, arrays, layout.storages)

    def take_buffer(self, arena: Arena) -> BatchBuffer | None:
        """An empty batch in a block of the arena; None if the arena has no block for it."""
        block = arena.take(self._nbytes)
        if block is None:
            return None
        frames = tuple(
            block.contents[start : start + size] for start, size in zip(self._starts, self._sizes, strict=True)
        )
        arrays, small, following = [], [], iter(frames)
        for (shape, dtype, order), storage in zip(self._shapes, self._storages, strict=True):
            if storage == f.FRAME:
                arrays.append(np.ndarray(shape, dtype, next(following), order=order))
            else:
                arrays.append(np.empty(shape, dtype, order))
                small.append(arrays[-1])
        return BatchBuffer(self, _with_arrays(self._structure, iter(arrays)), arrays, small, frames, block)

    def fits(self, batch: Batch) -> bool:
        """Whether the batch has this structure, and its parts these shapes."""
        if _without_arrays(batch) != self._structure:
            return False
        shapes = [getattr(array, "shape", None) for array in _arrays_of(batch)]
        return shapes == [shape for shape, _, _ in self._shapes]


def _order(array: Array) -> Literal["C", "F"]:
    return "F" if array.flags.fnc else "C"


def _without_arrays(value: Any) -> Any:
    """The containers with None in place of each array: a template must not keep the batch's memory."""
    if type(value) is dict:
        return {key: _without_arrays(child) for key, child in value.items()}
    return type(value)(map(_without_arrays, value)) if type(value) in (tuple, list) else None


def _arrays_of(value: Any) -> Iterator[Any]:
    if type(value) in (tuple, list, dict):
        for child in value.values() if type(value) is dict else value:
            yield from _arrays_of(child)
    else:
        yield value


def _with_arrays(structure: Any, arrays: Any) -> Any:
    if type(structure) is dict:
        return {key: _with_arrays(child, arrays) for key, child in structure.items()}
    if structure is None:
        return next(arrays)
    return type(structure)([_with_arrays(child, arrays) for child in structure])
