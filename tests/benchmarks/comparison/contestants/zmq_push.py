"""The sending end of `plain_zmq`: ENCODING KIND ADDRESS HIGH_WATER_MARK SERVER_KEY (the last two may be empty)."""

from __future__ import annotations

import sys
from itertools import count

import msgpack
import msgpack_numpy
import numpy as np
import zmq

from tests.benchmarks.sequences import make


def send_raw(push: zmq.Socket[bytes], batch: tuple[np.ndarray, ...]) -> None:
    header = msgpack.packb([(array.dtype.str, array.shape) for array in batch])
    push.send_multipart([header, *batch], copy=False)


def send_msgpack(push: zmq.Socket[bytes], batch: tuple[np.ndarray, ...]) -> None:
    push.send(msgpack.packb(batch, default=msgpack_numpy.encode))


def main() -> None:
    encoding, kind, address, mark, server_key = sys.argv[1:]
    send = {"raw": send_raw, "msgpack": send_msgpack}[encoding]
    sequence = make(kind)
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        if mark:
            push.sndhwm = int(mark)
        if server_key:
            push.curve_publickey, push.curve_secretkey = zmq.curve_keypair()
            push.curve_serverkey = server_key.encode()
        push.connect(address)
        for index in count():
            send(push, sequence[index])


if __name__ == "__main__":
    main()
