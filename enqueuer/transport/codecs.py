"""Compression libraries behind one face; they are of the ``compression`` extra, and imported when one is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Final

from enqueuer.errors import ProtocolError

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
