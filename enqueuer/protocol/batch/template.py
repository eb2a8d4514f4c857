"""Batches like the last one, made where the trainer reads them: for a Sequence that fills arrays it is given."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from enqueuer.memory.arena import Arena, Block, aligned_offsets
from enqueuer.protocol.batch import format as f
from enqueuer.protocol.batch.encoder import EncodedBatch, regular_layout

Array = np.ndarray[Any, Any]


@dataclass(slots=True)
class BatchBuffer:
    """``batch`` is not initialised; its large arrays are views of the block. Either `encode` it or `release` it.
    ``arrays`` are all that it is made of, ``small`` those of them that travel in the message.
    """

    template: BatchTemplate
    batch: Any
    arrays: Sequence[Array]
    small: Sequence[Array]
    frames: tuple[memoryview, ...]
    block: Block

    @property
    def is_unchanged(self) -> bool:
        """Whether the batch is still what it was, but for what its arrays hold: it may be a list or a dict, and whoever
        fills it may put others there, or call them by other names.
        """
        return self.template.fits(self.batch) and all(map(operator.is_, _arrays_of(self.batch), self.arrays))

    def encode(self) -> EncodedBatch:
        """Now that it is filled. Nobody may write to it any more."""
        inline = b"".join([array.tobytes("A") for array in self.small])
        header = self.template.header
        nbytes = len(header) + len(inline) + sum(map(len, self.frames))
        return EncodedBatch(header, inline, self.frames, nbytes, self.block)

    def release(self) -> None:
        """It is not used after all."""
        self.block.release()


class BatchTemplate:
    """What all batches share that are like one of them: structure, shapes, dtypes and memory orders."""

    def __init__(self, batch: Any, header: bytes, arrays: Sequence[Array], storages: Sequence[int]) -> None:
        self._structure = _without_arrays(batch)
        self.header = header
        self._storages = tuple(storages)
        self._shapes = [(array.shape, array.dtype, _order(array)) for array in arrays]
        self._sizes = [array.nbytes for array, storage in zip(arrays, storages, strict=True) if storage == f.FRAME]
        self._starts, self._nbytes = aligned_offsets(self._sizes)

    @classmethod
    def of(cls, batch: Any) -> BatchTemplate | None:
        """For a batch that was encoded before; None unless it is plain arrays, at least one of them large."""
        found = regular_layout(batch)
        if found is None or f.FRAME not in found[0].storages:
            return None
        layout, arrays = found
        return cls(batch, layout.header, arrays, layout.storages)

    def room(self, arena: Arena) -> BatchBuffer | None:
        """None where the arena has no block for it."""
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

    def fits(self, batch: Any) -> bool:
        """Whether the batch has this structure, and what is in it has these shapes."""
        if _without_arrays(batch) != self._structure:
            return False
        shapes = [getattr(array, "shape", None) for array in _arrays_of(batch)]
        return shapes == [shape for shape, _, _ in self._shapes]


def _order(array: Array) -> Literal["C", "F"]:
    return "F" if array.flags.fnc else "C"


def _without_arrays(value: Any) -> Any:
    """The containers alone: the batch itself is not to be kept."""
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
