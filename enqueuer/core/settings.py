"""Facts of one session that are no options: what `start()` was given, and where workers connect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from enqueuer.core.digests import BatchDigest


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """A channel: a pair of sockets, for control and for batches, where workers connect.

    Attributes:
        name: its name in every `Route`.
        data_endpoint: the address of the batches' socket, as workers reach it.
        local: its peers are the trainer's own processes, the only ones that get a live object.
        shared_memory: where workers on this host offer their shared memory, and the secret to say there; None: nowhere.
        compression: what workers compress large buffers with; None: nothing.
    """

    name: str
    data_endpoint: str
    local: bool
    shared_memory: tuple[str, bytes] | None = None
    compression: str | None = None


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """One session, from `start()` to `stop()`.

    Attributes:
        session: its random id, in every message.
        channels: where workers connect.
        numpy_version: the trainer's.
        python_version: the trainer's; '' in tests without one.
        max_queue_size: bound on undelivered batches, beside one in each slot; 0 or less: none; None: found by itself.
        max_bytes: bound on the bytes of undelivered batches; None: none.
        skipped_before: batches that earlier sessions skipped; they count towards ``max_skipped``.
        address: where remote workers connect, for the warning that none is there; '' without remote workers.
        data_address: the second port, that for batches; '' without remote workers.
        digest_of: the digest of a payload, None for one that cannot be compared; None: no batches are compared.
    """

    session: bytes
    channels: tuple[ChannelFacts, ...]
    numpy_version: str
    max_queue_size: int | None = 10
    max_bytes: int | None = None
    skipped_before: int = 0
    address: str = ""
    data_address: str = ""
    digest_of: Callable[[Any], BatchDigest | None] | None = None
    python_version: str = ""
