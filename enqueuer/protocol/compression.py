"""Large buffers made smaller for a network: where it pays, and never by more than can be undone within bounds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any, Final

from enqueuer.errors import ProtocolError
from enqueuer.protocol.batch import EncodedBatch
from enqueuer.protocol.batch.format import Buffer

CODECS: Final = ("lz4", "zstd")

# LZ4_MAX_INPUT_SIZE of lz4.h: what its block format can hold.
_LONGEST_LZ4: Final = 0x7E000000

_Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Codec:
    """``pack(buffer)``, of at most ``longest`` bytes; ``unpack(packed, nbytes)`` makes exactly so many bytes of it, or
    raises ProtocolError.
    """

    pack: Callable[[_Buffer], bytes]
    unpack: Callable[[_Buffer, int], _Buffer]
    longest: int


def find_codec(name: str) -> Codec:
    """One of `CODECS`. Raises ImportError, which says what to install, where its library is not there."""
    try:
        return _lz4() if name == "lz4" else _zstd()
    except ImportError as error:
        raise ImportError(f"compression={name!r} needs a library: pip install 'enqueuer[compression]'") from error


def _lz4() -> Codec:
    block = import_module("lz4.block")

    def unpack(packed: _Buffer, nbytes: int) -> _Buffer:
        try:
            unpacked = block.decompress(packed, uncompressed_size=nbytes)
        except (block.LZ4BlockError, ValueError, OverflowError, MemoryError) as error:
            raise ProtocolError(f"a compressed buffer cannot be read: {error}") from None
        return _exactly(unpacked, nbytes)

    return Codec(partial(block.compress, store_size=False), unpack, _LONGEST_LZ4)


def _zstd() -> Codec:
    zstandard = import_module("zstandard")
    # Neither may be used by two threads at once: each side has its own codec, and one thread for it.
    compressor, decompressor = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()

    def unpack(packed: _Buffer, nbytes: int) -> _Buffer:
        try:
            # It allocates what the frame itself says.
            if zstandard.get_frame_parameters(packed).content_size != nbytes:
                raise ProtocolError("a compressed buffer is not of the size that its batch describes")
            return _exactly(decompressor.decompress(packed), nbytes)
        except (zstandard.ZstdError, MemoryError) as error:
            raise ProtocolError(f"a compressed buffer cannot be read: {error}") from None

    return Codec(compressor.compress, unpack, sys.maxsize)


def _exactly(unpacked: bytes, nbytes: int) -> _Buffer:
    if len(unpacked) != nbytes:
        raise ProtocolError("a compressed buffer is not of the size that its batch describes")
    return unpacked


# What LZ4 can do at most. Whoever sends a megabyte cannot make its receiver fill more than a quarter of a gigabyte.
MOST_TIMES: Final = 255
# A frame that loses less than this is sent as it is: undoing it would cost more than it saves.
_LEAST_SAVED = 0.05
_MOST_PASSED_OVER = 64


class Compressor:
    """A worker's: packs the large buffers of its batches, and learns which of them are not worth it."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        # Of the buffers in each place of a batch: how many to pass over, and how many were, the last time.
        self._passes: dict[int, tuple[int, int]] = {}

    def pack(self, encoded: EncodedBatch) -> EncodedBatch:
        """The same batch, with each large buffer that shrinks packed; as it is where it lies in shared memory."""
        if encoded.block is not None or not encoded.frames:
            return encoded
        packed = [self._pack_one(place, frame) for place, frame in enumerate(encoded.frames)]
        if all(frame is None for frame in packed):
            return encoded
        frames = tuple(
            frame if smaller is None else smaller for frame, smaller in zip(encoded.frames, packed, strict=True)
        )
        sizes = tuple(0 if smaller is None else len(smaller) for smaller in packed)
        return replace(encoded, frames=frames, packed_sizes=sizes)

    def _pack_one(self, place: int, frame: Buffer) -> bytes | None:
        """None where it does not pay; then the next ones in this place are not even tried, twice as many each time."""
        if len(frame) > self._codec.longest:
            return None
        left, last = self._passes.get(place, (0, 0))
        if left:
            self._passes[place] = left - 1, last
            return None
        packed = self._codec.pack(frame)
        if len(packed) > (1 - _LEAST_SAVED) * len(frame):
            more = min(max(1, 2 * last), _MOST_PASSED_OVER)
            self._passes[place] = more, more
            return None
        self._passes.pop(place, None)
        # Trailing zeros are ignored; without them what shrinks a thousandfold would look like an attack.
        return packed.ljust(-(-len(frame) // MOST_TIMES), b"\0")


def check_sizes(packed_sizes: Any, sizes: tuple[int, ...]) -> None:
    """Raise ProtocolError unless these can be the packed sizes (0: not packed) of buffers of those sizes."""
    if type(packed_sizes) is not list or len(packed_sizes) != len(sizes):
        raise ProtocolError("a batch's packed sizes are not those of its buffers")
    for packed, size in zip(packed_sizes, sizes, strict=True):
        if type(packed) is not int or not (packed == 0 or packed < size <= MOST_TIMES * packed):
            raise ProtocolError(f"a buffer of {size} bytes cannot be packed into {packed!r:.20}")
