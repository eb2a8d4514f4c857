"""Plain pyzmq: PUSH processes and one PULL. No order, no acknowledgement, and nothing survives a death.

Raw frames: a header (dtypes, shapes) and each array's own memory, without a copy of pyzmq's at either end.
msgpack-numpy: one message, encoded and decoded. The two ends' high-water marks together make the depth.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import zmq

from tests.benchmarks.comparison.contestants.programs import running


@contextmanager
def _pull(encoding: str, transport: str, kind: str, depth: int | None, workers: int) -> Iterator[Iterator[Any]]:
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as context, context.socket(zmq.PULL) as pull:
        mark = "" if depth is None else str(high_water_mark(depth, workers))
        if mark:
            pull.rcvhwm = int(mark)
        server_key = _become_curve_server(pull) if transport == "curve" else ""
        pull.bind(f"ipc://{Path(folder) / 'pull'}" if transport == "ipc" else "tcp://127.0.0.1:*")
        address = pull.get_string(zmq.LAST_ENDPOINT)
        with running("zmq_push", [(encoding, kind, address, mark, server_key)] * workers):
            yield _RECEIVERS[encoding](pull)
            pull.close(linger=0)


def high_water_mark(depth: int, workers: int) -> int:
    """Of each of the connections' two ends, so that together they hold what ours may: ``depth`` and one a worker."""
    return -(-(depth + workers) // (2 * workers))


def _become_curve_server(pull: zmq.Socket[bytes]) -> str:
    public, secret = zmq.curve_keypair()
    pull.curve_secretkey, pull.curve_publickey, pull.curve_server = secret, public, True
    return public.decode()


def _receive_raw(pull: zmq.Socket[bytes]) -> Iterator[Any]:
    while True:
        header, *frames = pull.recv_multipart(copy=False)
        described = msgpack.unpackb(header.buffer)
        yield tuple(
            np.frombuffer(frame.buffer, dtype).reshape(shape)
            for (dtype, shape), frame in zip(described, frames, strict=True)
        )


def _receive_msgpack(pull: zmq.Socket[bytes]) -> Iterator[Any]:
    while True:
        yield msgpack.unpackb(pull.recv(), object_hook=msgpack_numpy.decode, strict_map_key=False)


_RECEIVERS: dict[str, Callable[[zmq.Socket[bytes]], Iterator[Any]]] = {
    "raw": _receive_raw,
    "msgpack": _receive_msgpack,
}

raw_ipc = partial(_pull, "raw", "ipc")
raw_tcp = partial(_pull, "raw", "tcp")
raw_curve = partial(_pull, "raw", "curve")
msgpack_ipc = partial(_pull, "msgpack", "ipc")
msgpack_tcp = partial(_pull, "msgpack", "tcp")
