"""Encodes control messages, and decodes them from hostile bytes. `docs/pages/explanation/wire.md` is the contract.

`_SCHEMA` lists each message with one check for each of its fields. `decode_control` raises nothing but `ProtocolError`,
and its time and memory are bounded by the length of the input.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import msgpack

from enqueuer.errors import ProtocolError
from enqueuer.protocol import messages as m
from enqueuer.protocol.observation import Snapshot, WorkerRow
from enqueuer.protocol.unpacking import INTEGERS, unpack

Check: TypeAlias = Callable[[Any], Any]

# A worker holds some thousands of leases, and those that it answered while acknowledgements were lost. A range of a few
# bytes expands to all its numbers: 2 MB of memory for this many.
MAX_LEASES = 1 << 16
_MAX_TEXT = 64 * 1024
_MAX_CAUSES = 16
# For the names of a worker and its host, which appear in log lines.
_MAX_NAME = 256
_MAX_SETTINGS = 32


# ---------------------------------------------------------------- checks of fields: each returns the value, or raises


def _integer(value: Any) -> int:
    if type(value) is not int or value not in INTEGERS:
        raise ProtocolError(f"expected an integer, got {_type_name(value)}")
    return value


def _count(value: Any) -> int:
    if type(value) is int and 0 <= value < 1 << 64:
        return value
    raise ProtocolError(f"expected a count, got {_integer(value)}")


def _seconds(value: Any) -> float:
    if type(value) not in (float, int) or value != value:
        raise ProtocolError(f"expected seconds, got {_type_name(value)}")
    return float(value)


def _seconds_or_none(value: Any) -> float | None:
    return None if value is None else _seconds(value)


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > _MAX_TEXT:
        raise ProtocolError(f"expected a text of at most {_MAX_TEXT} characters, got {_type_name(value)}")
    return value


def _label(value: Any) -> str:
    """A name for log lines: a line break in it would forge one."""
    if type(value) is not str or len(value) > _MAX_NAME or not value.isprintable():
        raise ProtocolError(f"expected a name of at most {_MAX_NAME} printable characters, got {_type_name(value)}")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ProtocolError(f"expected true or false, got {_type_name(value)}")
    return value


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise ProtocolError(f"expected bytes, got {_type_name(value)}")
    return value


def _id(value: Any) -> bytes:
    if len(_bytes(value)) != m.ID_BYTES:
        raise ProtocolError(f"an id has {m.ID_BYTES} bytes, not {len(value)}")
    return bytes(value)


def _id_or_none(value: Any) -> bytes:
    return m.NO_ID if value == m.NO_ID else _id(value)


def _ids(value: Any) -> tuple[bytes, ...]:
    return tuple(_id(item) for item in _list(value))


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise ProtocolError(f"expected a list, got {_type_name(value)}")
    return value


def _indices(value: Any) -> tuple[int, ...]:
    # tuple() of a list of known length. CPython keeps freed tuples for the next ones of their length, up to 2000
    # of each length and 5 MB in all. A tuple of an iterator is made longer and then cut, so kept ones never fit.
    return tuple([_count(index) for index in _list(value)])


def _leases(value: Any) -> tuple[int, ...]:
    return leases_from_ranges(value)


def _mapping(value: Any) -> dict[str, Any]:
    if type(value) is not dict or not all(type(key) is str for key in value):
        raise ProtocolError(f"expected a mapping with text keys, got {_type_name(value)}")
    return value


def _list_or_none(value: Any) -> list[Any] | None:
    return None if value is None else _list(value)


def _settings(value: Any) -> tuple[tuple[str, str], ...]:
    if len(_list(value)) > _MAX_SETTINGS or not all(type(pair) is list and len(pair) == 2 for pair in value):
        raise ProtocolError(f"expected at most {_MAX_SETTINGS} pairs of a name and a value")
    return tuple((_label(name), _label(text)) for name, text in value)


def _count_or_none(value: Any) -> int | None:
    return None if value is None else _count(value)


def _events(value: Any) -> tuple[tuple[int, float, str, str], ...]:
    if not all(type(event) is list and len(event) == 4 for event in _list(value)):
        raise ProtocolError("an event is a number, a time, what happened and a worker")
    return tuple((_count(number), _seconds(at), _label(what), _text(name)) for number, at, what, name in value)


def _computing(value: Any) -> tuple[int, int, float] | None:
    if value is None:
        return None
    if len(_list(value)) != 3:
        raise ProtocolError("what a worker computes is an epoch, an index and a time")
    epoch, index, seconds = value
    return _count(epoch), _count(index), _seconds(seconds)


def _rows(value: Any) -> tuple[WorkerRow, ...]:
    if len(_list(value)) > m.MOST_ROWS:
        raise ProtocolError(f"more than {m.MOST_ROWS} workers in one message")
    return tuple(_row(row) for row in value)


def _row(value: Any) -> WorkerRow:
    if len(_list(value)) < len(_ROW_CHECKS):
        raise ProtocolError(f"a worker has {len(_ROW_CHECKS)} fields, not {len(value)}")
    return WorkerRow(*[check(field) for check, field in zip(_ROW_CHECKS, value, strict=False)])


def _role(value: Any) -> m.Role:
    try:
        return m.Role(_integer(value))
    except ValueError:
        raise ProtocolError(f"unknown role {value}") from None


_ROW_CHECKS: tuple[Check, ...] = (
    *(_label, _label, _count, _label, _count, _count, _count, _count, _seconds, _seconds, _seconds, _computing),
    _count,
)


def _anything(value: Any) -> Any:
    return value


def _error(value: Any, depth: int = 0) -> m.ErrorRecord:
    fields = _list(value)
    if len(fields) != 8 or depth > _MAX_CAUSES:
        raise ProtocolError("an error has 8 fields and a bounded chain of causes")
    module, qualname, text, traceback, args, attributes, cause, pickled_type = fields
    return m.ErrorRecord(
        _text(module),
        _text(qualname),
        _text(text),
        _text(traceback),
        None if args is None else tuple(_list(args)),
        None if attributes is None else _mapping(attributes),
        None if cause is None else _error(cause, depth + 1),
        None if pickled_type is None else _bytes(pickled_type),
    )


def _type_name(value: Any) -> str:
    return type(value).__name__


# ---------------------------------------------------------------- ranges of leases


def leases_to_ranges(leases: Iterable[int]) -> list[int]:
    """Ascending lease numbers as [start, count, start, count, …]: a thousand in a row are two numbers."""
    ranges: list[int] = []
    end = None
    for lease in leases:
        if lease == end:
            ranges[-1] += 1
        else:
            ranges += (lease, 1)
        end = lease + 1
    return ranges


def leases_from_ranges(value: Any, most: int = MAX_LEASES) -> tuple[int, ...]:
    """The lease numbers of ``[start, count, …]``, up to ``most``: two numbers could otherwise ask for 2**63 of them."""
    ranges = _list(value)
    if len(ranges) % 2:
        raise ProtocolError("ranges of leases come in pairs")
    leases: list[int] = []
    for start, count in zip(ranges[::2], ranges[1::2], strict=True):
        if _count(count) > most - len(leases):
            raise ProtocolError(f"more than {most} leases in one message")
        leases.extend(range(_count(start), start + count))
    return tuple(leases)


# ---------------------------------------------------------------- the messages

# The kind, the class, and a check for each field in its order. A field without a check is not sent.
_SCHEMA: tuple[tuple[m.Kind, type, tuple[Check, ...]], ...] = (
    (
        m.Kind.HELLO,
        m.Hello,
        (
            *(_count, _role, _label, _id, _id_or_none, _count, _label, _count, _label, _label, _bytes, _leases),
            *(_count, _label),
        ),
    ),
    (m.Kind.READY, m.Ready, (_count, _count, _count, _bytes, _flag, _settings)),
    (
        m.Kind.HEARTBEAT,
        m.Heartbeat,
        (*(_leases, _count, _integer, _count, _count, _seconds, _seconds), *(_seconds, _count, _seconds, _count)),
    ),
    (m.Kind.FAILURE, m.Failure, (_count, _count, _count, _error)),
    (m.Kind.LOAD_FAILURE, m.LoadFailure, (_count, _count, _error)),
    (m.Kind.DRAIN, m.Drain, ()),
    (m.Kind.GOODBYE, m.Goodbye, (_count,)),
    (m.Kind.WORKER_EXITED, m.WorkerExited, (_id, _count, _integer, _count, _flag, _text)),
    (m.Kind.CHILDREN, m.Children, (_ids,)),
    (m.Kind.LOG, m.Log, (_integer, _text, _text)),
    (m.Kind.OBSERVE, m.Observe, (_count, _count, _count)),
    (m.Kind.WELCOME, m.Welcome, (_text, _seconds, _seconds, _count, _list_or_none, _mapping)),
    (m.Kind.REJECT, m.Reject, (_text,)),
    (m.Kind.EPOCH, m.Epoch, (_count, _count, _count, _anything)),
    (m.Kind.HEARTBEAT_REPLY, m.HeartbeatReply, (_count, _count, _seconds)),
    (m.Kind.GRANT, m.Grant, (_count, _count, _count, _count, _indices)),
    (m.Kind.REVOKE, m.Revoke, (_leases,)),
    (m.Kind.BYE, m.Bye, ()),
    (m.Kind.WHO_ARE_YOU, m.WhoAreYou, ()),
    (m.Kind.STOP, m.Stop, ()),
    (m.Kind.NO_BLOCKS, m.NoBlocks, ()),
    (
        m.Kind.SNAPSHOT,
        Snapshot,
        (
            # The trainer, the epoch, the queue, the fleet.
            *(_label, _label, _count, _seconds, _seconds, *(_count,) * 3, *(_count,) * 4, *(_count,) * 4),
            # Totals: batches and bytes, times, faults.
            *(_count, _count, _count, _seconds, *(_seconds,) * 4, *(_count,) * 8),
            # The verdict and its window; item times, events, workers.
            *(_label, _seconds, _count_or_none, _text, _text, _seconds, _count, _indices, _events),
            *(_count, _count, _rows, _seconds),
            # Memory, and what workers use; the figures behind the verdict; where the trainer listens.
            *(_count, _count, _count, _seconds, _count, _seconds),
            *(_seconds, _seconds, _seconds, _seconds_or_none, *(_seconds,) * 5),
            *(_label, _label),
        ),
    ),
)
_BY_KIND = {int(kind): (cls, checks) for kind, cls, checks in _SCHEMA}
_KIND_OF = {cls: int(kind) for kind, cls, _ in _SCHEMA}


def _field_names(cls: type) -> tuple[str, ...]:
    names: tuple[str, ...] | None = getattr(cls, "_fields", None)
    return tuple(field.name for field in dataclasses.fields(cls)) if names is None else names


_FIELDS_OF: dict[type, tuple[tuple[str, bool], ...]] = {
    cls: tuple((name, check is _leases) for name, check in zip(_field_names(cls), checks, strict=True))
    for _, cls, checks in _SCHEMA
}


def encode_control(session: bytes, message: m.Message) -> bytes:
    """Encode a message as one frame for the control channel."""
    cls = type(message)
    fields: list[Any] = [_KIND_OF[cls], session]
    for name, is_leases in _FIELDS_OF[cls]:
        value = getattr(message, name)
        fields.append(leases_to_ranges(value) if is_leases else value)
    return bytes(msgpack.packb(fields, default=_plain))


def decode_control(data: bytes | memoryview) -> tuple[bytes, m.Message]:
    """Decode one frame into its session and message. Raises `ProtocolError`, and nothing else."""
    fields = unpack(data)
    if type(fields) is not list or len(fields) < 2:
        raise ProtocolError("a control message is an array of kind, session and fields")
    kind, session = fields[0], _id_or_none(fields[1])
    if type(kind) is not int or kind not in _BY_KIND:
        raise ProtocolError(f"unknown kind of message: {reprlib.repr(kind)}")
    cls, checks = _BY_KIND[kind]
    values = fields[2:]
    if len(values) < len(checks):
        raise ProtocolError(f"{cls.__name__} has {len(checks)} fields, not {len(values)}")
    # A newer version adds its fields at the end; they are ignored here.
    message: m.Message = cls(*[check(value) for check, value in zip(checks, values, strict=False)])
    return session, message


def _plain(value: Any) -> Any:
    if isinstance(value, m.ErrorRecord):
        return [getattr(value, name) for name in _field_names(type(value))]
    raise TypeError(f"{_type_name(value)} cannot be part of a control message")
