"""Every decoder of bytes that another process sends or a file holds: how to feed it, and what it may raise.

Each takes bytes, goes through all that happens to them before user code sees anything, and returns normally both for
what is accepted and for what is refused with the one typed error. Whatever else it raises is a defect.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from enqueuer.compute.epoch_state import read_epoch_ends
from enqueuer.compute.error_records import rebuild_error
from enqueuer.compute.plain_values import NotPlainError
from enqueuer.compute.plain_values import decode as decode_plain
from enqueuer.compute.spec import split_target
from enqueuer.errors import ConfigurationError, ProtocolError, StateError
from enqueuer.memory.slab_exchange import COMMON_DIRECTORY, common_path
from enqueuer.protocol import control_codec
from enqueuer.protocol.batch import Trust, parse_batch, parse_dtype
from enqueuer.protocol.compression import find_codec
from enqueuer.protocol.control_codec import decode_control, encode_control
from enqueuer.protocol.messages import ErrorRecord, Failure, LoadFailure
from enqueuer.protocol.unpacking import unpack
from enqueuer.security.keys import parse_coordinator_key, parse_token
from enqueuer.stream.hook_runs import EPOCH_ENDS_LIMIT
from enqueuer.stream.state import check_agreement, read_states
from enqueuer_worker.commands import parse_command
from enqueuer_worker.settings import ChildSettings
from tests.fuzz import samples
from tests.support.results import decode_results

# A batch that is larger than this is checked but not built: its memory is its frames', which did not arrive here.
_MOST_BUILT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Decoder:
    """``feed`` raises nothing. ``samples`` are valid; ``packed``: they are msgpack, else text."""

    name: str
    feed: Callable[[bytes], object]
    samples: Callable[[], list[bytes]]
    packed: bool = True


def _control(data: bytes) -> None:
    with suppress(ProtocolError):
        session, message = decode_control(data)
        if isinstance(message, Failure | LoadFailure):
            _raise_rebuilt(message.error)
        # Bytes, not messages: a NaN is not itself.
        again = encode_control(session, message)
        assert encode_control(*decode_control(again)) == again


def _results(data: bytes, codec: str = "lz4") -> None:
    frames = _unpack(data)
    if type(frames) is not list or not all(type(frame) is bytes for frame in frames):
        frames = [data]
    with suppress(ProtocolError):
        _, _, payloads = decode_results(frames, Trust.REMOTE, codec=find_codec(codec))
        for payload in payloads:
            payload.build()


def _batch_header(data: bytes) -> None:
    with suppress(ProtocolError):
        plan = parse_batch(data, Trust.REMOTE)
        if plan.nbytes <= _MOST_BUILT_BYTES:
            plan.build(bytes(plan.inline_bytes), [bytes(size) for size in plan.frame_bytes])


def _dtype(data: bytes) -> None:
    description = _unpack(data)
    with suppress(ProtocolError):
        parse_dtype(description)


def _error_record(data: bytes) -> None:
    fields = _unpack(data)
    with suppress(ProtocolError):
        _raise_rebuilt(control_codec._error(fields))


def _raise_rebuilt(record: ErrorRecord) -> None:
    """What a trainer does with it: raise it, print it."""
    error = rebuild_error(record, index=3, epoch=1, worker="w", host="h", trust_local=False)
    assert isinstance(error, Exception)
    # The text is the class's own code, which may fail on fields of other types, but in Python's own ways.
    with suppress(Exception):
        str(error)
    with suppress(Exception):
        traceback.format_exception(error)


def _plain_value(data: bytes) -> None:
    value = _unpack(data)
    with suppress(NotPlainError):
        decode_plain(value)


def _epoch_ends(data: bytes) -> None:
    runs = _unpack(data)
    with suppress(ProtocolError):
        assert len(read_epoch_ends(runs)) <= EPOCH_ENDS_LIMIT


def _state(data: bytes) -> None:
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        return  # the reader of the file says so
    with suppress(StateError):
        states = read_states(given)
        if isinstance(given, list):
            check_agreement(states)


def _settings_line(data: bytes) -> None:
    with suppress(ProtocolError):
        ChildSettings.from_line(data)


def _command(data: bytes) -> None:
    with suppress(ProtocolError):
        parse_command(data)


def _target(data: bytes) -> None:
    with suppress(ConfigurationError):
        split_target(data.decode("utf-8", "surrogateescape"))


def _token(data: bytes) -> None:
    with suppress(ConfigurationError):
        parse_token(data.decode("utf-8", "surrogateescape"), "a token")


def _key_file(data: bytes) -> None:
    with suppress(ConfigurationError):
        parse_coordinator_key(data.decode("utf-8", "surrogateescape"), "a key file")


def _slab_name(data: bytes) -> None:
    with suppress(OSError):
        path = common_path(data.decode("utf-8", "surrogateescape"))
        assert path.parent == COMMON_DIRECTORY and path.name.startswith("enqueuer-")


def _unpack(data: bytes) -> object:
    """As the control codec reads it, where what is fuzzed is a part of a message."""
    try:
        return unpack(data)
    except ProtocolError:
        return data


DECODERS = {
    decoder.name: decoder
    for decoder in (
        Decoder("control", _control, samples.control),
        Decoder("results", _results, samples.results),
        Decoder("results_zstd", partial(_results, codec="zstd"), partial(samples.results, "zstd")),
        Decoder("batch_header", _batch_header, samples.batch_headers),
        Decoder("dtype", _dtype, samples.dtypes),
        Decoder("error_record", _error_record, samples.error_records),
        Decoder("plain_value", _plain_value, samples.error_records),
        Decoder("epoch_ends", _epoch_ends, samples.epoch_ends),
        Decoder("state", _state, samples.states, packed=False),
        Decoder("settings_line", _settings_line, samples.settings_lines, packed=False),
        Decoder("command", _command, samples.commands, packed=False),
        Decoder("target", _target, samples.targets, packed=False),
        Decoder("token", _token, samples.tokens, packed=False),
        Decoder("key_file", _key_file, samples.key_files, packed=False),
        Decoder("slab_name", _slab_name, samples.slab_names, packed=False),
    )
}
