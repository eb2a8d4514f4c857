"""One msgpack value out of bytes that anybody may have sent, for no more than they are worth."""

from __future__ import annotations

from typing import Any

import msgpack

from enqueuer.errors import ProtocolError

# What nested headers can reserve in fewer bytes than this is not worth a second look: some 80 KB.
_SMALL_BYTES = 256


def unpack(data: bytes | memoryview) -> Any:
    """The value. Raises `ProtocolError`, and nothing else; time and memory are bounded by the length.

    msgpack makes room for what an array's header announces before anything of it is there, and arrays nest a thousand
    deep: 10 KB would ask for 80 MB, in older versions for far more. So the bytes are first walked through without
    making anything, which fails where an element is missing; after that each announced element is known to be there.
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
