"""Channels: a bound pair of sockets each, with the trust that its peers have. Local processes have one of their own."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import zmq

from enqueuer.errors import ConfigurationError
from enqueuer.host import raise_file_limit
from enqueuer.memory.slab_exchange import SlabReceiver, receive_slabs
from enqueuer.options import Options
from enqueuer.protocol.batch import Trust
from enqueuer.protocol.compression import Codec, find_codec
from enqueuer.security.curve import find_key_file
from enqueuer.security.gatekeeper import Gatekeeper
from enqueuer.security.keys import read_coordinator_key
from enqueuer.transport.addresses import is_loopback
from enqueuer.transport.sockets import CoordinatorSockets

# The kernel's limit on a socket's path is 107 characters; a name follows the directory.
_MAX_PATH = 80


class PrivateDirectory:
    """Mode 0700 from the start (`mkdtemp`), with a random name: an ``ipc://`` path must never be used twice."""

    def __init__(self) -> None:
        path = tempfile.mkdtemp(prefix="enqueuer-")
        if len(path) > _MAX_PATH:
            Path(path).rmdir()
            path = tempfile.mkdtemp(prefix="enqueuer-", dir="/tmp")
        self.path = Path(path)

    def endpoint(self, name: str) -> str:
        return f"ipc://{self.path / name}"

    def remove(self) -> None:
        """With all that is in it. May be called again."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self.path)


logger = logging.getLogger("enqueuer")


@dataclass(frozen=True, slots=True)
class Channel:
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


def bind_local(
    context: zmq.Context[Any], directory: PrivateDirectory, secret: bytes, *, shared_memory: bool
) -> Channel:
    """For the trainer's own processes, in a directory that nobody else may enter. Raises OSError."""
    raise_file_limit()
    sockets = CoordinatorSockets(context, directory.endpoint("control"), directory.endpoint("data"))
    with _closed_if_interrupted(sockets):
        slabs = receive_slabs(directory.path / "slabs") if shared_memory else None
        return Channel("local", sockets, Trust.LOCAL, secret, slabs)


def bind_remote(context: zmq.Context[Any], address: str, options: Options) -> Channel:
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
        return Channel("remote", sockets, trust, slabs=slabs, codec=codec)


def settle_keys(options: Options) -> Options:
    """The options with the key file that will be used: the caller's, or the one that the environment names.

    Raises ConfigurationError, before anything is started, for keys that cannot be used, for a door that would stand
    open without keys, and for a compression library that is not installed.
    """
    if options.compression is not None:
        try:
            find_codec(options.compression)
        except ImportError as error:
            raise ConfigurationError(str(error)) from error
    # The environment's file is for trainers that bind, and a key that is there is always used.
    found = None if options.bind is None else find_key_file(options.key_file)
    if found is None:
        _refuse_open_doors(options)
        return options
    # It is read again and again, from whatever directory the trainer is in by then.
    path = str(Path(found).expanduser().absolute())
    read_coordinator_key(path)
    return replace(options, key_file=path, insecure=False)


def _refuse_open_doors(options: Options) -> None:
    if options.allow_pickle:
        raise ConfigurationError(
            "allow_pickle=True lets remote workers run code in this process, so it needs bind=… and key_file=…: "
            "without keys that would be anyone who reaches the port"
        )
    for name in ("bind", "data_bind"):
        address = getattr(options, name)
        if address is not None and not options.insecure and not is_loopback(address):
            raise ConfigurationError(
                f"{name}={address!r} can be reached from other machines, and without keys anyone who reaches it "
                "could feed this training job. Make keys with `enqueuer keygen DIR`, and pass "
                "key_file='DIR/coordinator.key' here and --token-file DIR/worker.token to the workers; or pass "
                "insecure=True if that network is yours alone"
            )


@contextmanager
def _closed_if_interrupted(sockets: CoordinatorSockets) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sockets.close()
        raise
