"""Control messages to bytes and back; every byte that comes in is hostile until checked here.

Nothing but `ProtocolError` comes out of `decode_control`, and time and memory are bounded by the input's length.
The wire contract is `README.md` beside this file.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Callable, Iterable
from typing import Any

import msgpack

from enqueuer.errors import ProtocolError
from enqueuer.protocol import messages as m
from enqueuer.protocol.unpacking import unpack

Check = Callable[[Any], Any]

# A worker has some thousands, and those that it answered while acknowledgements were lost. Their numbers take memory
# that the runs, a few bytes, did not: 2 MB for this many.
MAX_LEASES = 1 << 16
_MAX_TEXT = 64 * 1024
_MAX_CAUSES = 16
# Of a worker and of its host: they stand in log lines.
_MAX_NAME = 256
_MAX_COUNTER = 1 << 63


# ---------------------------------------------------------------- checks, one a field


def _integer(value: Any) -> int:
    if type(value) is not int or not -_MAX_COUNTER <= value < 1 << 64:
        raise ProtocolError(f"expected an integer, got {_name(value)}")
    return value


def _count(value: Any) -> int:
    if type(value) is int and 0 <= value < 1 << 64:
        return value
    raise ProtocolError(f"expected a count, got {_integer(value)}")


def _seconds(value: Any) -> float:
    if type(value) not in (float, int) or value != value:
        raise ProtocolError(f"expected seconds, got {_name(value)}")
    return float(value)


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > _MAX_TEXT:
        raise ProtocolError(f"expected a text of at most {_MAX_TEXT} characters, got {_name(value)}")
    return value


def _label(value: Any) -> str:
    """A name that goes into log lines, which a line break in it would forge."""
    if type(value) is not str or len(value) > _MAX_NAME or not value.isprintable():
        raise ProtocolError(f"expected a name of at most {_MAX_NAME} printable characters, got {_name(value)}")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ProtocolError(f"expected true or false, got {_name(value)}")
    return value


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise ProtocolError(f"expected bytes, got {_name(value)}")
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
        raise ProtocolError(f"expected a list, got {_name(value)}")
    return value


def _indices(value: Any) -> tuple[int, ...]:
    # From a list, whose length is known. CPython keeps a tuple that has gone for the next one of its length, up to 2000
    # of each and 5 MB in all; one out of an iterator is made longer and cut, so what is kept is never used again.
    return tuple([_count(index) for index in _list(value)])


def _leases(value: Any) -> tuple[int, ...]:
    return leases_from_runs(value)


def _mapping(value: Any) -> dict[str, Any]:
    if type(value) is not dict or not all(type(key) is str for key in value):
        raise ProtocolError(f"expected a mapping with text keys, got {_name(value)}")
    return value


def _list_or_none(value: Any) -> list[Any] | None:
    return None if value is None else _list(value)


def _role(value: Any) -> m.Role:
    try:
        return m.Role(_integer(value))
    except ValueError:
        raise ProtocolError(f"unknown role {value}") from None


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


def _name(value: Any) -> str:
    return type(value).__name__


# ---------------------------------------------------------------- leases as runs


def leases_to_runs(leases: Iterable[int]) -> list[int]:
    """Ascending lease numbers as [start, count, start, count, …]: a thousand in a row are two numbers."""
    runs: list[int] = []
    end = None
    for lease in leases:
        if lease == end:
            runs[-1] += 1
        else:
            runs += (lease, 1)
        end = lease + 1
    return runs


def leases_from_runs(value: Any, most: int = MAX_LEASES) -> tuple[int, ...]:
    """The inverse; bounded, since two numbers could otherwise ask for 2**63 of them."""
    runs = _list(value)
    if len(runs) % 2:
        raise ProtocolError("runs of leases come in pairs")
    leases: list[int] = []
    for start, count in zip(runs[::2], runs[1::2], strict=True):
        if _count(count) > most - len(leases):
            raise ProtocolError(f"more than {most} leases in one message")
        leases.extend(range(_count(start), start + count))
    return tuple(leases)


# ---------------------------------------------------------------- the messages

# Kind, class, and a check for each field in its order. A field that is not listed does not exist on the wire.
_SCHEMA: tuple[tuple[m.Kind, type, tuple[Check, ...]], ...] = (
    (
        m.Kind.HELLO,
        m.Hello,
        (_count, _role, _label, _id, _id_or_none, _count, _label, _count, _label, _label, _bytes, _leases, _count),
    ),
    (m.Kind.READY, m.Ready, (_count, _count, _count, _bytes)),
    (m.Kind.HEARTBEAT, m.Heartbeat, (_leases, _count, _integer, _count, _count, _seconds, _seconds)),
    (m.Kind.FAILURE, m.Failure, (_count, _count, _count, _error)),
    (m.Kind.LOAD_FAILURE, m.LoadFailure, (_count, _count, _error)),
    (m.Kind.DRAIN, m.Drain, ()),
    (m.Kind.GOODBYE, m.Goodbye, (_count,)),
    (m.Kind.WORKER_EXITED, m.WorkerExited, (_id, _count, _integer, _count, _flag, _text)),
    (m.Kind.CHILDREN, m.Children, (_ids,)),
    (m.Kind.LOG, m.Log, (_integer, _text, _text)),
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
)
_BY_KIND = {int(kind): (cls, checks) for kind, cls, checks in _SCHEMA}
_KIND_OF = {cls: int(kind) for kind, cls, _ in _SCHEMA}


def _field_names(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


_FIELDS_OF: dict[type, tuple[tuple[str, bool], ...]] = {
    cls: tuple((name, check is _leases) for name, check in zip(_field_names(cls), checks, strict=True))
    for _, cls, checks in _SCHEMA
}


def encode_control(session: bytes, message: m.Message) -> bytes:
    """One frame for the control channel."""
    cls = type(message)
    fields: list[Any] = [_KIND_OF[cls], session]
    for name, is_leases in _FIELDS_OF[cls]:
        value = getattr(message, name)
        fields.append(leases_to_runs(value) if is_leases else value)
    return bytes(msgpack.packb(fields, default=_plain))


def decode_control(data: bytes | memoryview) -> tuple[bytes, m.Message]:
    """The session and the message in one frame. Raises `ProtocolError`, and nothing else."""
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
    # More fields than known come from a newer version, which adds them at the end.
    message: m.Message = cls(*[check(value) for check, value in zip(checks, values, strict=False)])
    return session, message


def _plain(value: Any) -> Any:
    if isinstance(value, m.ErrorRecord):
        return [getattr(value, name) for name in _field_names(m.ErrorRecord)]
    raise TypeError(f"{_name(value)} has no place in a control message")
