"""The bound pairs of sockets, and what their peers are trusted with: local processes come to one, others to another."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import zmq

from enqueuer.config import Options
from enqueuer.protocol.batch_codec import Trust
from enqueuer.runtime.private_directory import PrivateDirectory
from enqueuer.transport.addresses import is_loopback
from enqueuer.transport.codecs import Codec, find_codec
from enqueuer.transport.gatekeeper import Gatekeeper
from enqueuer.transport.limits import raise_file_limit
from enqueuer.transport.slab_exchange import SlabReceiver, receive_slabs
from enqueuer.transport.sockets import CoordinatorSockets

logger = logging.getLogger("enqueuer")


@dataclass(frozen=True, slots=True)
class Pair:
    """A ``secret`` must be in every Hello."""

    name: str
    sockets: CoordinatorSockets
    trust: Trust
    secret: bytes = field(default=b"", repr=False)
    # Where workers on this host show their shared memory; None where there is no such thing.
    slabs: SlabReceiver | None = None
    # Reads what its workers were asked to compress; None where they were not.
    codec: Codec | None = None

    def close(self, linger_seconds: float = 0.0) -> None:
        """Close what is open; ``linger_seconds`` gives the last control messages time to leave."""
        self.sockets.close(linger_seconds)
        if self.slabs is not None:
            self.slabs.close()


def bind_local(context: zmq.Context[Any], directory: PrivateDirectory, secret: bytes, *, shared_memory: bool) -> Pair:
    """For the trainer's own processes, in a directory that nobody else may enter. Raises OSError."""
    raise_file_limit()
    sockets = CoordinatorSockets(context, directory.endpoint("control"), directory.endpoint("data"))
    with _closed_if_interrupted(sockets):
        slabs = receive_slabs(directory.path / "slabs") if shared_memory else None
        return Pair("local", sockets, Trust.LOCAL, secret, slabs)


def bind_remote(context: zmq.Context[Any], address: str, options: Options) -> Pair:
    """Where the caller said, with the keys that he named. Raises OSError."""
    raise_file_limit(for_remote=True)
    data_address = options.data_bind or f"{address.rpartition(':')[0]}:*"
    gate = None
    if options.key_file is not None:
        # Before the sockets: nobody is to come in while nobody looks.
        gate = Gatekeeper(context, str(options.key_file))
        gate.start()
    elif not (is_loopback(address) and is_loopback(data_address)):
        logger.warning("%s has no keys (insecure=True): whoever reaches it can feed this training job", address)
    sockets = CoordinatorSockets(context, address, data_address, gate)
    with _closed_if_interrupted(sockets):
        slabs = receive_slabs() if options.shared_memory else None
        codec = None if options.compression is None else find_codec(options.compression)
        trust = Trust.KEYED if options.allow_pickle else Trust.REMOTE
        return Pair("remote", sockets, trust, slabs=slabs, codec=codec)


@contextmanager
def _closed_if_interrupted(sockets: CoordinatorSockets) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sockets.close()
        raise
