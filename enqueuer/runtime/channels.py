"""Channels: each is a bound pair of sockets (control and data) with a level of trust.

Local processes connect to the local channel, in a directory private to this user; remote workers to the remote one.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from enqueuer.core.events import Right
from enqueuer.errors import ConfigurationError
from enqueuer.host import raise_file_limit
from enqueuer.memory.slab_exchange import SlabReceiver, receive_slabs
from enqueuer.options import Options
from enqueuer.protocol.batch import Trust
from enqueuer.protocol.compression import Codec, find_codec
from enqueuer.security.curve import find_key_file
from enqueuer.transport.addresses import is_loopback
from enqueuer.transport.local_sockets import LocalSockets
from enqueuer.transport.sockets import CoordinatorSockets

if TYPE_CHECKING:
    from enqueuer.security.gatekeeper import Gatekeeper

logger = logging.getLogger("enqueuer")

# The kernel's limit on a socket's path is 107 characters; a file name follows the directory.
_MAX_PATH = 80


class PrivateDirectory:
    """A new directory with mode 0700 from the start (`mkdtemp`).

    Its name is random, so no worker of an earlier session finds the socket of a later one.
    """

    def __init__(self) -> None:
        path = tempfile.mkdtemp(prefix="enqueuer-")
        if len(path) > _MAX_PATH:
            Path(path).rmdir()
            path = tempfile.mkdtemp(prefix="enqueuer-", dir="/tmp")
        self.path = Path(path)

    def remove(self) -> None:
        """Remove the directory and its content. May be called again."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self.path)


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel. Every Hello on it must carry the ``secret``."""

    name: str
    sockets: CoordinatorSockets | LocalSockets
    trust: Trust
    secret: bytes = field(default=b"", repr=False)
    # Receives the shared memory of workers on this host; None: not available, or turned off.
    slabs: SlabReceiver | None = None
    # Knows the keys of peers; None: a channel without keys.
    gate: Gatekeeper | None = None
    # Decompresses batches; None: the workers are not asked to compress.
    codec: Codec | None = None

    def right_of(self, key: str) -> Right:
        """The rights of a peer with this key."""
        if self.gate is None:
            return Right.ALL
        return Right.OBSERVE if self.gate.is_observer(key) else Right.SERVE

    def close(self, linger_seconds: float = 0.0) -> None:
        """Close the sockets; ``linger_seconds`` gives the last control messages time to leave."""
        self.sockets.close(linger_seconds)
        if self.slabs is not None:
            self.slabs.close()


def bind_local(
    context: zmq.Context[Any], directory: PrivateDirectory, secret: bytes, *, shared_memory: bool
) -> Channel:
    """Bind the channel of the local processes, in the private directory. Raises OSError."""
    raise_file_limit()
    sockets = LocalSockets(directory.path / "link")
    with _closed_if_interrupted(sockets):
        slabs = receive_slabs(directory.path / "slabs") if shared_memory else None
        return Channel("local", sockets, Trust.LOCAL, secret, slabs)


def bind_remote(context: zmq.Context[Any], address: str, options: Options) -> Channel:
    """Bind the channel of remote workers at this address, with the keys of ``options.key_file``. Raises OSError."""
    raise_file_limit(for_remote=True)
    data_address = options.data_bind or f"{address.rpartition(':')[0]}:*"
    gate = None
    if options.key_file is not None:
        from enqueuer.security.gatekeeper import Gatekeeper

        # Started before the sockets are bound, so every peer is checked.
        gate = Gatekeeper(context, str(options.key_file))
        gate.start()
    elif not (is_loopback(address) and is_loopback(data_address)):
        logger.warning("%s has no keys (insecure=True): anyone who reaches it can feed this training job", address)
    sockets = CoordinatorSockets(context, address, data_address, gate)
    with _closed_if_interrupted(sockets):
        slabs = receive_slabs() if options.shared_memory else None
        codec = None if options.compression is None else find_codec(options.compression)
        trust = Trust.KEYED if options.allow_pickle else Trust.REMOTE
        return Channel("remote", sockets, trust, slabs=slabs, gate=gate, codec=codec)


def settle_keys(options: Options) -> Options:
    """The options with the key file to use: the caller's, or the one that the environment names.

    Raises ConfigurationError, before anything is started, for unusable keys, for an address that is reachable from
    other machines without keys, and for a compression library that is not installed.
    """
    if options.compression is not None:
        try:
            find_codec(options.compression)
        except ImportError as error:
            raise ConfigurationError(str(error)) from error
    # The environment's file counts only with ``bind``; where there is a key, it is used, whatever ``insecure`` says.
    found = None if options.bind is None else find_key_file(options.key_file)
    if found is None:
        _refuse_unprotected(options)
        return options
    from enqueuer.security.keys import read_coordinator_key

    # The file is read again and again, and the trainer may change its working directory.
    path = str(Path(found).expanduser().absolute())
    read_coordinator_key(path)
    return replace(options, key_file=path, insecure=False)


def _refuse_unprotected(options: Options) -> None:
    """Raise ConfigurationError for options that need keys."""
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
def _closed_if_interrupted(sockets: CoordinatorSockets | LocalSockets) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sockets.close()
        raise
