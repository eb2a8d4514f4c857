"""Unpacks one msgpack value from hostile bytes, with time and memory bounded by their number."""

from __future__ import annotations

from typing import Any, Final

import msgpack

from enqueuer.errors import ProtocolError

# The integers that msgpack can carry.
INTEGERS: Final = range(-(2**63), 2**64)
# Nested array headers in fewer bytes than this reserve some 80 KB at most, so they need no first pass.
_SMALL_BYTES = 256


def unpack(data: bytes | memoryview) -> Any:
    """Unpack the one value in the bytes. Raises `ProtocolError`, and nothing else.

    msgpack allocates an array when it reads the array's header, before any element, and arrays nest a thousand deep:
    10 KB would allocate 80 MB, in older versions far more. So a first pass skips through the bytes without making any
    value, and fails at a missing element; the second pass then allocates only for elements that are there.
    """
    most = len(data)
    limits: dict[str, Any] = {
        "strict_map_key": False,
        "max_ext_len": 0,
        "max_array_len": most,
        "max_map_len": most,
    }
    try:
        if most > _SMALL_BYTES:
            walker = msgpack.Unpacker(max_buffer_size=most, **limits)
            walker.feed(data)
            walker.skip()
        return msgpack.unpackb(data, **limits)
    except Exception as error:
        raise ProtocolError(f"not msgpack: {type(error).__name__}") from None
