"""A batch to a header and buffers, with a short way for the batches that differ only in their arrays' bytes."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from enqueuer.protocol import batch_format as f
from enqueuer.protocol.batch_buffers import Piece, block_bytes, copy_to_block, gather, private_arrays
from enqueuer.protocol.batch_format import Buffer, Trust
from enqueuer.protocol.batch_walk import Walk
from enqueuer.transport.arena import Arena, Block

_MAX_LAYOUTS = 256
_MAX_LAYOUT_ARRAYS = 64
_MAX_LAYOUT_DEPTH = 8


@dataclass(slots=True)  # not frozen: that alone would double the time to make one
class EncodedBatch:
    """A batch as it travels; nobody changes it. ``nbytes`` is all of it together.

    A frame is the batch's own memory where nothing but the batch refers to that, and a copy where something does. With
    a ``block``, the frames are copies in that. ``packed_sizes[i]`` is the size of frame ``i`` if it is compressed,
    else 0; None if none is.
    """

    header: bytes
    inline: bytes
    frames: tuple[Buffer, ...]
    nbytes: int
    block: Block | None = None
    packed_sizes: tuple[int, ...] | None = None

    @property
    def sent_bytes(self) -> int:
        """What goes through a socket where the block is only named."""
        return self.nbytes if self.block is None else len(self.header) + len(self.inline)


@dataclass(frozen=True, slots=True)
class Layout:
    """What all batches of one structure share: arrays only, nothing but their bytes differs."""

    header: bytes
    places: tuple[int, ...]
    all_inline: bool
    nbytes: int


class _IrregularError(Exception):
    """A batch holds more than plain arrays in tuples, lists and dicts, so its header is its own."""


# Threads may encode at the same time: at worst both find the same layout, or one is found again.
_layouts: dict[Hashable, Layout] = {}


def encode_batch(batch: object, trust: Trust, arena: Arena | None = None) -> EncodedBatch:
    """The batch's header and buffers. What `BatchPlan.build` makes of them equals the batch.

    Kept exactly: None, bool, int, float, complex, str, bytes, bytearray, tuple, list, dict (order; keys are plain
    values or tuples of them), NumPy scalars, and arrays of any shape, memory order and dtype. Object arrays keep their
    shape. Tensors of torch, TensorFlow and JAX and memory-mapped arrays become plain NumPy arrays.

    Everything else (a namedtuple, an `OrderedDict`, a masked array, an object of a user's class, …) is pickled under
    `Trust.LOCAL`. Under `Trust.REMOTE` an `OrderedDict` or `defaultdict` becomes a dict, and the rest is refused.

    Large buffers are copied into a block of the ``arena``, where there is one and it has room. Else those of arrays
    that nothing but the batch refers to are not copied, so what is encoded must not be written to; more than one
    reference of the caller's own to the batch makes it a copy: pass the variable on, do not collect them.

    Raises `SequenceError`, which names the place in the batch, for what cannot be carried.
    """
    references = sys.getrefcount(batch)  # before the lists below count as others that have it
    arrays: list[Piece] = []
    outline = _outline_or_none(batch, arrays)
    layout = _layouts.get(outline)
    if layout is None:
        arrays.clear()  # these references would make each array look like somebody else's, too
        encoded, layout = _encode_walking(batch, references, trust, arena)
        if outline is not None and layout is not None:
            if len(_layouts) >= _MAX_LAYOUTS:
                _layouts.clear()
            _layouts[outline] = layout
        return encoded
    if layout.all_inline:
        # tobytes("A") is F order for an array that is only F-contiguous, else C order; it copies any strides.
        inline = b"".join([array.tobytes("A") for array in arrays])  # type: ignore[union-attr]
        return EncodedBatch(layout.header, inline, (), layout.nbytes)
    return _with_frames(batch, references, layout.header, arrays, layout.places, arena)


def regular_layout(batch: object) -> tuple[Layout, list[np.ndarray[Any, Any]]] | None:
    """What a batch has in common with others, and its arrays; None unless it is plain arrays and was encoded lately."""
    arrays: list[Any] = []
    layout = _layouts.get(_outline_or_none(batch, arrays))
    return None if layout is None else (layout, arrays)


def _outline_or_none(batch: object, arrays: list[Piece]) -> Hashable:
    parts: list[Any] = []
    try:
        _outline(batch, parts, arrays, 0)
    except _IrregularError:
        return None
    return tuple(parts)


def _outline(value: Any, parts: list[Any], arrays: list[Piece], depth: int) -> None:
    """Adds what decides the header of a batch that is nothing but arrays in containers; collects the arrays."""
    kind = type(value)
    if kind is np.ndarray:
        arrays.append(value)
        parts += (value.dtype, value.shape, value.strides)
        return
    if depth > _MAX_LAYOUT_DEPTH or len(arrays) > _MAX_LAYOUT_ARRAYS:
        raise _IrregularError
    if kind is tuple or kind is list:
        parts += (kind, len(value))
        for child in value:
            _outline(child, parts, arrays, depth + 1)
    elif kind is dict:
        parts += (kind, len(value))
        for key, child in value.items():
            if type(key) is not str:  # 1, True and 1.0 are one key here and three in a header
                raise _IrregularError
            parts.append(key)
            _outline(child, parts, arrays, depth + 1)
    else:
        raise _IrregularError


def _encode_walking(
    batch: object, references: int, trust: Trust, arena: Arena | None
) -> tuple[EncodedBatch, Layout | None]:
    """Encode node by node; also the layout, if another batch of this outline would have the same one."""
    walk = Walk(trust)
    walk.add(batch, (), 0)
    encoded = _with_frames(batch, references, walk.header(), walk.pieces, walk.places, arena)
    if not walk.is_regular:
        return encoded, None
    return encoded, Layout(encoded.header, tuple(walk.places), f.FRAME not in walk.places, encoded.nbytes)


def _with_frames(
    batch: object,
    references: int,
    header: bytes,
    pieces: Sequence[Piece],
    places: Sequence[int],
    arena: Arena | None,
) -> EncodedBatch:
    block = arena.take(block_bytes(pieces, places)) if arena is not None and f.FRAME in places else None
    if block is not None:
        inline, frames = copy_to_block(pieces, places, block)
    else:
        private = private_arrays(batch, references, pieces) if f.FRAME in places else set()
        inline, frames = gather(pieces, places, private)
    nbytes = len(header) + len(inline) + sum(len(frame) for frame in frames)
    return EncodedBatch(header, inline, frames, nbytes, block)
