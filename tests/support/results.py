"""Decodes a whole result message at once; the trainer decodes it in two steps, with its own checks between them."""

from __future__ import annotations

from collections.abc import Sequence

from enqueuer.protocol.batch import Frame, Trust
from enqueuer.protocol.compression import Codec
from enqueuer.protocol.messages import ResultsHeader
from enqueuer.protocol.results_codec import BatchPayload, OpenBlocks, decode_header, decode_payloads


def decode_results(
    frames: Sequence[Frame], trust: Trust, open_blocks: OpenBlocks | None = None, codec: Codec | None = None
) -> tuple[bytes, ResultsHeader, Sequence[BatchPayload]]:
    """The session, the header, and a payload for each lease. Raises as `decode_header` and `decode_payloads` do."""
    session, header = decode_header(frames)
    return session, header, decode_payloads(frames, header, trust, open_blocks, codec)
