"""A session's facts for the core, beside the options: its bounds, its channels, the versions in use."""

from __future__ import annotations

import platform

import numpy as np

from enqueuer.compute.batch_digest import digest_payload
from enqueuer.core.settings import ChannelFacts, SessionFacts
from enqueuer.host import total_bytes
from enqueuer.options import Options
from enqueuer.protocol.batch import Trust
from enqueuer.runtime.bookmark import Bookmark
from enqueuer.runtime.channels import Channel

# With an automatic depth and no ``max_bytes``: the part of the machine's memory for undelivered batches.
_AUTO_MEMORY = 1 / 8


def session_facts(
    session_id: bytes, bookmark: Bookmark, channels: list[Channel], max_queue_size: int | None
) -> SessionFacts:
    """Collect the facts of a session with bound channels; ``max_queue_size`` None stands for 'auto'."""
    options = bookmark.options
    max_bytes = options.max_bytes
    if max_bytes is None and max_queue_size is None:
        # Without a bound on bytes, an automatic depth would grow without end behind one hung batch.
        max_bytes = int(_AUTO_MEMORY * total_bytes())
    remote = [channel for channel in channels if channel.trust is not Trust.LOCAL]
    return SessionFacts(
        session=session_id,
        channels=tuple(_channel_facts(channel, options) for channel in channels),
        numpy_version=np.__version__,
        python_version=platform.python_version(),
        max_queue_size=max_queue_size,
        max_bytes=max_bytes,
        skipped_before=bookmark.skipped_before,
        address=remote[0].sockets.control_endpoint if remote else "",
        data_address=remote[0].sockets.data_endpoint if remote else "",
        digest_of=digest_payload,
    )


def _channel_facts(channel: Channel, options: Options) -> ChannelFacts:
    local, slabs = channel.trust is Trust.LOCAL, channel.slabs
    # A remote worker gets a name in the common directory: no trainer may have it connect to another path.
    shared = (str(slabs.path) if local else slabs.path.name, slabs.secret) if slabs is not None else None
    compression = None if channel.codec is None else options.compression
    return ChannelFacts(channel.name, _data_endpoint(channel, options), local, shared, compression)


def _data_endpoint(channel: Channel, options: Options) -> str:
    """The data address for workers: the advertised one, else our port on the host of their control connection."""
    endpoint = channel.sockets.data_endpoint
    if channel.trust is Trust.LOCAL:
        return endpoint
    if options.advertise is not None:
        host, _, port = options.advertise.rpartition(":")
        return f"{host}:{endpoint.rpartition(':')[2]}" if port in ("*", "0") else options.advertise
    return f"tcp://*:{endpoint.rpartition(':')[2]}"
