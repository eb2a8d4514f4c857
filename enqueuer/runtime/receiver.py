"""The receiver: reads messages from the sockets, where any peer may send, and makes events for the core of them.

Malformed messages, and those of banned or unauthenticated peers, go no further: at most an event reports them.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Iterator, Sequence

from enqueuer.core.events import (
    BlockUnavailable,
    ControlReceived,
    Event,
    Malformed,
    ResultsReceived,
    ResultsRefused,
    Route,
    RouteLost,
)
from enqueuer.errors import ProtocolError
from enqueuer.protocol.batch import Trust
from enqueuer.protocol.control_codec import decode_control
from enqueuer.protocol.messages import NO_ID, ErrorRecord, Failure, Hello, LoadFailure, Reject, ResultsHeader
from enqueuer.protocol.results_codec import (
    BatchPayload,
    BlockUnavailableError,
    FalseHeaderError,
    decode_header,
    decode_payloads,
)
from enqueuer.runtime.channels import Channel

logger = logging.getLogger("enqueuer")

# How many messages of one socket are read before the others get their turn.
_MESSAGES_PER_TURN = 500
_MALFORMED_LOGGED = 10


class Receiver:
    """Reads the channels of one session, in the I/O thread.

    ``ignores`` tells whether to drop a peer's messages unread; ``refuse`` sends a peer the reason of its rejection.
    """

    def __init__(
        self,
        session: bytes,
        ignores: Callable[[Route | bytes], bool],
        refuse: Callable[[Route, Reject], object],
    ) -> None:
        self._session = session
        self._ignores = ignores
        self._refuse = refuse
        # Messages of banned peers, dropped unread.
        self.ignored_count = 0
        # Bytes of all batches; of those that came over the network, as they travelled; of those that may have been
        # compressed; and the bytes that compression saved.
        self.bytes_total = self.network_bytes = self._compressible_bytes = self._saved_bytes = 0
        self._malformed_count = 0

    @property
    def compression_ratio(self) -> float:
        """Bytes of batches per byte sent for them, where workers were asked to compress."""
        saved = self._saved_bytes
        return self._compressible_bytes / (self._compressible_bytes - saved) if saved else 1.0

    def control(self, channel: Channel) -> Iterator[Event]:
        """Yield the events of waiting control messages, at most `_MESSAGES_PER_TURN` of them."""
        for _ in range(_MESSAGES_PER_TURN):
            received = channel.sockets.receive_control()
            if received is None:
                return
            frames, key = received
            route = Route(channel.name, frames[0])
            if self._ignores(route):
                self.ignored_count += 1
                continue
            if key is None:
                # The peer's key was revoked. The core gives its leases to other workers; its connection stays, since
                # libzmq cannot close a single one.
                self._refuse(route, Reject("its key was revoked"))
                yield RouteLost(route)
                continue
            try:
                if len(frames) != 2:
                    raise ProtocolError(f"a control message is one frame, not {len(frames) - 1}")
                session, message = decode_control(frames[1])
                if channel.trust is not Trust.LOCAL and isinstance(message, Failure | LoadFailure):
                    _refuse_pickles(message.error)
            except ProtocolError as error:
                self._note_malformed(channel, error)
                yield Malformed(route, str(error))
                continue
            if isinstance(message, Hello) and not hmac.compare_digest(message.secret, channel.secret):
                reason = f"worker {message.worker_id} on {message.host} has a wrong secret"
                self._note_malformed(channel, reason)
                self._refuse(route, Reject("wrong secret"))
                yield Malformed(route, reason)
                continue
            yield ControlReceived(route, session, message, key, channel.right_of(key))

    def results(self, channel: Channel) -> Iterator[Event]:
        """Yield the events of waiting result messages, at most `_MESSAGES_PER_TURN` of them."""
        open_blocks = channel.slabs.blocks.open if channel.slabs is not None else None
        for _ in range(_MESSAGES_PER_TURN):
            received = channel.sockets.receive_data()
            if received is None:
                return
            frames, key = received
            if key is None:
                continue
            try:
                session, header = decode_header(frames)
            except ProtocolError as error:
                self._note_malformed(channel, error)
                yield self._refuse_unread(error, key)
                continue
            if session != self._session:
                continue
            if self._ignores(header.incarnation):
                self.ignored_count += 1
                continue
            try:
                payloads = decode_payloads(frames, header, channel.trust, open_blocks, channel.codec)
            except BlockUnavailableError as error:
                yield BlockUnavailable(error.incarnation, str(error), key)
                continue
            except ProtocolError as error:
                self._note_malformed(channel, error)
                yield ResultsRefused(header.incarnation, header.seq, header.leases, str(error), key)
                continue
            nbytes = sum([payload.nbytes for payload in payloads])
            self.bytes_total += nbytes
            if channel.trust is not Trust.LOCAL:
                self._note_network(header, payloads, nbytes, is_packed=channel.codec is not None)
            yield ResultsReceived(
                header.incarnation,
                header.epoch,
                header.generation,
                header.seq,
                header.busy,
                header.leases,
                payloads,
                nbytes,
                key,
            )

    def _note_network(
        self, header: ResultsHeader, payloads: Sequence[BatchPayload], nbytes: int, *, is_packed: bool
    ) -> None:
        """Count the batches that came as frames; those in shared memory do not travel, and are never compressed."""
        if any(header.blocks):
            nbytes -= sum(payload.nbytes for payload, ref in zip(payloads, header.blocks, strict=True) if ref)
        saved = 0
        if is_packed:
            saved = sum([payload.saved_bytes for payload in payloads])
            self._compressible_bytes += nbytes
            self._saved_bytes += saved
        self.network_bytes += nbytes - saved

    def _refuse_unread(self, error: ProtocolError, key: str) -> ResultsRefused:
        """Refuse a message with a malformed header. Only the header names its sender, if it can be read that far."""
        incarnation = NO_ID
        if isinstance(error, FalseHeaderError) and error.session == self._session:
            incarnation = error.incarnation
        return ResultsRefused(incarnation, 0, (), str(error), key)

    def _note_malformed(self, channel: Channel, error: ProtocolError | str) -> None:
        self._malformed_count += 1
        if self._malformed_count <= _MALFORMED_LOGGED:
            logger.warning("dropped a malformed message on the %s sockets: %s", channel.name, error)
        if self._malformed_count == _MALFORMED_LOGGED:
            logger.warning("further malformed messages are only counted (stats().malformed_count)")


def _refuse_pickles(error: ErrorRecord | None) -> None:
    """Raise ProtocolError if the record, or a cause of it, carries a pickle; only local processes may send one."""
    while error is not None:
        if error.pickled_type is not None:
            raise ProtocolError("an error from a remote worker carries a pickle")
        error = error.cause
