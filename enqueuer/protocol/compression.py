"""Compression of large buffers for a network, where it pays, and by a bounded factor.

A receiver allocates the unpacked size, so the arrived bytes must bound it: a buffer is never packed to less than
1 / `MAX_EXPANSION` of its size.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any, Final

from enqueuer.errors import ProtocolError
from enqueuer.protocol.batch import Buffer, EncodedBatch

CODECS: Final = ("lz4", "zstd")

# LZ4_MAX_INPUT_SIZE of lz4.h, the limit of the LZ4 block format.
_MAX_LZ4_BYTES: Final = 0x7E000000


@dataclass(frozen=True, slots=True)
class Codec:
    """A compression library. ``pack(buffer)`` takes at most ``max_bytes``.

    ``unpack(packed, nbytes)`` returns exactly ``nbytes`` bytes, or raises ProtocolError.
    """

    pack: Callable[[Buffer], bytes]
    unpack: Callable[[Buffer, int], Buffer]
    max_bytes: int


def find_codec(name: str) -> Codec:
    """The codec of a name in `CODECS`. Raises ImportError, with the package to install, if its library is missing."""
    try:
        return _lz4() if name == "lz4" else _zstd()
    except ImportError as error:
        raise ImportError(f"compression={name!r} needs a library: pip install 'enqueuer[compression]'") from error


def _lz4() -> Codec:
    block = import_module("lz4.block")

    def unpack(packed: Buffer, nbytes: int) -> Buffer:
        try:
            unpacked = block.decompress(packed, uncompressed_size=nbytes)
        except (block.LZ4BlockError, ValueError, OverflowError, MemoryError) as error:
            raise ProtocolError(f"a compressed buffer cannot be read: {error}") from None
        return _exactly(unpacked, nbytes)

    return Codec(partial(block.compress, store_size=False), unpack, _MAX_LZ4_BYTES)


def _zstd() -> Codec:
    zstandard = import_module("zstandard")
    # Neither may be used by two threads at once: each side has its own codec, and uses it in one thread.
    compressor, decompressor = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()

    def unpack(packed: Buffer, nbytes: int) -> Buffer:
        try:
            # decompress() allocates the size in the frame's own header, so check that first.
            if zstandard.get_frame_parameters(packed).content_size != nbytes:
                raise _wrong_size()
            return _exactly(decompressor.decompress(packed), nbytes)
        except (zstandard.ZstdError, MemoryError) as error:
            raise ProtocolError(f"a compressed buffer cannot be read: {error}") from None

    return Codec(compressor.compress, unpack, sys.maxsize)


def _exactly(unpacked: bytes, nbytes: int) -> Buffer:
    if len(unpacked) != nbytes:
        raise _wrong_size()
    return unpacked


def _wrong_size() -> ProtocolError:
    return ProtocolError("a compressed buffer is not of the size that its batch describes")


# The highest factor of LZ4. A peer that sends a megabyte makes its receiver allocate a quarter of a gigabyte at most.
MAX_EXPANSION: Final = 255
# A buffer that shrinks by less than this part is sent as it is: unpacking it would cost more than it saves.
_MIN_SAVED = 0.05
_MAX_SKIPS = 64


class Compressor:
    """Packs the large buffers of a worker's batches, and learns to skip those that do not shrink."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        # For each buffer's number in its batch: (batches still to skip, length of the last skip). The length doubles
        # each time the buffer does not shrink.
        self._skips: dict[int, tuple[int, int]] = {}

    def pack(self, encoded: EncodedBatch) -> EncodedBatch:
        """Pack each large buffer that shrinks. A batch in shared memory is returned unchanged."""
        if encoded.block is not None or not encoded.frames:
            return encoded
        packed = [self._pack_one(number, frame) for number, frame in enumerate(encoded.frames)]
        if all(frame is None for frame in packed):
            return encoded
        frames = tuple(
            frame if smaller is None else smaller for frame, smaller in zip(encoded.frames, packed, strict=True)
        )
        sizes = tuple(0 if smaller is None else len(smaller) for smaller in packed)
        return replace(encoded, frames=frames, packed_sizes=sizes)

    def _pack_one(self, number: int, frame: Buffer) -> bytes | None:
        """The packed buffer; None if it does not shrink enough, or is skipped."""
        if len(frame) > self._codec.max_bytes:
            return None
        left, last = self._skips.get(number, (0, 0))
        if left:
            self._skips[number] = left - 1, last
            return None
        packed = self._codec.pack(frame)
        if len(packed) > (1 - _MIN_SAVED) * len(frame):
            skips = min(max(1, 2 * last), _MAX_SKIPS)
            self._skips[number] = skips, skips
            return None
        self._skips.pop(number, None)
        # Trailing zeros are ignored. Without them a buffer that shrinks a thousandfold would look like an attack.
        return packed.ljust(-(-len(frame) // MAX_EXPANSION), b"\0")


def check_packed_sizes(packed_sizes: Any, sizes: tuple[int, ...]) -> None:
    """Raise ProtocolError unless buffers of these ``sizes`` can have the ``packed_sizes`` (0: not packed)."""
    if type(packed_sizes) is not list or len(packed_sizes) != len(sizes):
        raise ProtocolError("a batch's packed sizes are not those of its buffers")
    for packed, size in zip(packed_sizes, sizes, strict=True):
        if type(packed) is not int or not (packed == 0 or packed < size <= MAX_EXPANSION * packed):
            raise ProtocolError(f"a buffer of {size} bytes cannot be packed into {packed!r:.20}")
