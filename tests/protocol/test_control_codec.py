"""Control messages survive encoding and decoding, and other bytes are protocol errors."""

from __future__ import annotations

import inspect
import math
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enqueuer.errors import ProtocolError
from enqueuer.protocol import messages as m
from enqueuer.protocol.control_codec import (
    MAX_LEASES,
    decode_control,
    encode_control,
    leases_from_ranges,
    leases_to_ranges,
)
from enqueuer.protocol.observation import Snapshot, WorkerRow
from tests.support.kept_blocks import blocks_kept_by

SESSION = b"s" * 16
ID = b"i" * 16
CAUSE = m.ErrorRecord("builtins", "KeyError", "'k'", "", ("k",), None, None, None)
ERROR = m.ErrorRecord("my.mod", "Broken", "text", "Traceback ...", (1, "a"), {"x": 2.5}, CAUSE, b"pickle")

ROW = WorkerRow("w", "host", 42, "serving", 1, 2, 100, 2**40, 0.01, 0.009, 0.02, (3, 17, 0.25), 2**28)
SNAPSHOT = Snapshot(
    *("0.2.0", "host", 42, 60.5, 1.5, 3, 20, 50, 1, 0, 5, 12, 2, 2, 1, 0),
    *(4_000, 2**40, 2**39, 1.0, 12.5, 1.0, 80.0, 0.5, 0, 1, 2, 3, 4, 5, 6, 7),
    *("too few workers", 0.2, None, "a sentence", "a cure", 30.0, 2_000, (0, 7, 2**40)),
    *(((1, 0.5, "joined", "w on host"),), 2, 0, (ROW, ROW._replace(computing=None)), 1.25),
    *(2**31, 2**32, 2**38, 80.5, 2**33, 4.5),
    *(120.5, 0.02, 0.97, None, 0.5, 0.25, 0.1, 0.4, 0.7),
    *("tcp://0.0.0.0:5555", "tcp://0.0.0.0:41234"),
)

MESSAGES: list[m.Message] = [
    m.Hello(1, m.Role.WORKER, "w", ID, ID, 3, "host", 42, "2.1.0", "0.1.0", b"secret", (1, 2, 9), 7),
    m.Hello(1, m.Role.SUPERVISOR, "w", ID, m.NO_ID, 0, "host", 42, "", "0.1.0", b"", (), 0),
    m.Ready(2, 3, 100, b"digest"),
    m.Ready(2, 3, 100, b"", True, (("module:NAME", "1"), ("module:Class.size", "'a'"))),
    m.Heartbeat((1, 2, 3, 7), 9, -1, 4, 2, 12.5, 0.001, 80.5, 2**40, 1.5, 2**30),
    m.Failure(1, 2, 3, ERROR),
    m.LoadFailure(1, 2, CAUSE),
    m.Drain(),
    m.Goodbye(12),
    m.WorkerExited(ID, 1, -9, 17),
    m.WorkerExited(ID, 1, -9, 17, True, "Stack (most recent call first): …"),
    m.Children((ID, b"j" * 16)),
    m.Log(30, "root", "grüße"),
    m.Welcome("tcp://*:5556", 1.0, 30.0, 5, ["m:f", {"a": 1}], {"max_batches": None}),
    m.Welcome("ipc:///x", 1.0, 30.0, 0, None, {}),
    m.Reject("no"),
    m.Epoch(1, 2, 2**64 - 1, {"live": b"bytes", "list": [1, None]}),
    m.HeartbeatReply(3, 5, math.inf),
    m.Grant(1, 2, 3, 2**40, (5, 0, 7)),
    m.Revoke((4, 5, 6)),
    m.Bye(),
    m.WhoAreYou(),
    m.Stop(),
    m.NoBlocks(),
    m.Observe(128, 64, 7),
    SNAPSHOT,
]


def with_field(message: m.Message, name: str, value: object) -> list[Any]:
    """The array of a message, with this value in the field."""
    array = list(msgpack.unpackb(encode_control(SESSION, message), strict_map_key=False))
    array[2 + list(inspect.signature(type(message)).parameters).index(name)] = value
    return array


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_decodes_to_what_was_encoded(message: m.Message) -> None:
    assert decode_control(encode_control(SESSION, message)) == (SESSION, message)
    assert decode_control(memoryview(encode_control(m.NO_ID, message))) == (m.NO_ID, message)


def test_every_kind_of_control_message_is_tried_here() -> None:
    kinds = {msgpack.unpackb(encode_control(SESSION, message), strict_map_key=False)[0] for message in MESSAGES}
    assert kinds == set(m.Kind) - {m.Kind.RESULTS}


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_that_lacks_a_field_is_refused_and_one_with_a_new_field_is_not(message: m.Message) -> None:
    fields = msgpack.unpackb(encode_control(SESSION, message), strict_map_key=False)
    assert decode_control(msgpack.packb([*fields, "from the future"])) == (SESSION, message)
    if len(fields) > 2:
        with pytest.raises(ProtocolError, match="fields, not"):
            decode_control(msgpack.packb(fields[:-1]))


# Fields that only the loader checks: the state of an epoch, and the contents of a spec.
FREE_FIELDS = {(m.Kind.EPOCH, 5), (m.Kind.WELCOME, 6)}


@pytest.mark.parametrize("wrong", [True, [None], {1: 2}])
@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_field_of_a_wrong_type_is_refused(message: m.Message, wrong: object) -> None:
    fields = msgpack.unpackb(encode_control(SESSION, message), strict_map_key=False)
    for number in range(1, len(fields)):
        is_right = wrong is True and isinstance(fields[number], bool)
        if (fields[0], number) not in FREE_FIELDS and not is_right:
            with pytest.raises(ProtocolError):
                decode_control(msgpack.packb([*fields[:number], wrong, *fields[number + 1 :]]))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_truncated_message_is_refused(message: m.Message) -> None:
    data = encode_control(SESSION, message)
    for length in range(len(data)):
        with pytest.raises(ProtocolError):
            decode_control(data[:length])


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        ({}, "an array of kind, session and fields"),
        ([], "an array of kind, session and fields"),
        ([1], "an array of kind, session and fields"),
        ([99, SESSION], "unknown kind"),
        ([int(m.Kind.RESULTS), SESSION], "unknown kind"),
        (["1", SESSION], "unknown kind"),
        ([m.Kind.DRAIN, b"short"], "an id has 16 bytes, not 5"),
        ([m.Kind.GOODBYE, SESSION, -1], "expected a count, got -1"),
        ([m.Kind.HEARTBEAT_REPLY, SESSION, 1, 1, math.nan], "expected seconds"),
        ([m.Kind.REJECT, SESSION, "x" * 70_000], "expected a text of at most"),
        ([m.Kind.REVOKE, SESSION, [1]], "come in pairs"),
        ([m.Kind.WORKER_EXITED, SESSION, ID, 0, -9, 1, 1, ""], "expected true or false, got int"),
        ([m.Kind.LOAD_FAILURE, SESSION, 0, 0, ["m", "q", "t", "t"]], "an error has 8 fields"),
        (with_field(SNAPSHOT, "rows", [["w", "host"]]), "a worker has 13 fields, not 2"),
        (with_field(SNAPSHOT, "rows", [[]] * (m.MOST_ROWS + 1)), "more than 64 workers"),
        (with_field(SNAPSHOT, "events", [[1, 0.5, "joined"]]), "an event is a number"),
        (with_field(SNAPSHOT, "desired_slots", -1), "expected a count"),
        (
            with_field(SNAPSHOT, "rows", [[*"wh", 1, "s", 1, 1, 1, 1, 1.0, 1.0, 1.0, [1], 0]]),
            "an epoch, an index and a time",
        ),
    ],
)
def test_the_error_says_what_is_wrong_with_a_message(array: Any, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        decode_control(msgpack.packb(array))


def test_an_unknown_role_is_refused() -> None:
    fields = msgpack.unpackb(encode_control(SESSION, MESSAGES[0]))
    fields[3] = 3
    with pytest.raises(ProtocolError, match="unknown role 3"):
        decode_control(msgpack.packb(fields))


def test_a_chain_of_causes_is_bounded() -> None:
    error = CAUSE
    for _ in range(40):
        error = m.ErrorRecord("m", "q", "t", "t", None, None, error, None)
    with pytest.raises(ProtocolError, match="bounded chain of causes"):
        decode_control(encode_control(SESSION, m.Failure(0, 0, 1, error)))


def test_two_numbers_cannot_ask_for_more_leases_than_there_is_memory() -> None:
    for bomb in ([1, 2**62], [1, MAX_LEASES, 5, 1], [1, MAX_LEASES + 1], [0, 2**64 - 1] * 3):
        with pytest.raises(ProtocolError, match="leases in one message"):
            decode_control(msgpack.packb([m.Kind.REVOKE, SESSION, bomb]))
    assert len(leases_from_ranges([1, MAX_LEASES])) == MAX_LEASES


@pytest.mark.parametrize("opening", [b"\x91", b"\xdd\x00\x00\x00\x01", b"\x81\x01"])
@pytest.mark.parametrize("depth", [100, 1_000, 100_000])
def test_deeply_nested_messages_are_refused(opening: bytes, depth: int) -> None:
    deep = opening * depth + b"\xc0"
    for data in (deep, b"\x92" + deep + b"\xc4\x00", b"\x93\x25\xc4\x00" + deep):
        with pytest.raises(ProtocolError):
            decode_control(data)


def test_extension_types_are_refused() -> None:
    for value in (msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 2)):
        with pytest.raises(ProtocolError, match="not msgpack"):
            decode_control(msgpack.packb([m.Kind.EPOCH, SESSION, 0, 0, 0, value]))


def test_a_message_with_an_arbitrary_object_is_not_encoded() -> None:
    with pytest.raises(TypeError, match="object cannot be part of a control message"):
        encode_control(SESSION, m.Epoch(0, 0, 0, object()))


@given(st.sets(st.integers(0, 2**40), max_size=200))
def test_leases_survive_as_ranges(leases: set[int]) -> None:
    ascending = tuple(sorted(leases))
    assert leases_from_ranges(leases_to_ranges(ascending)) == ascending


def test_a_thousand_leases_in_a_row_are_two_numbers() -> None:
    assert leases_to_ranges(range(5, 1005)) == [5, 1000]


@given(st.binary(max_size=200))
def test_garbage_is_a_protocol_error_and_nothing_else(data: bytes) -> None:
    expect_message_or_protocol_error(data)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=17),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(sorted(m.Kind)), st.sampled_from([SESSION, m.NO_ID]), st.lists(PLAIN, max_size=14))
def test_well_formed_garbage_is_a_protocol_error_and_nothing_else(
    kind: m.Kind, session: bytes, fields: list[Any]
) -> None:
    expect_message_or_protocol_error(msgpack.packb([kind, session, *fields]))


@given(st.sampled_from(MESSAGES), st.data())
def test_a_flipped_byte_is_a_message_or_a_protocol_error(message: m.Message, data: st.DataObject) -> None:
    frame = bytearray(encode_control(SESSION, message))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    expect_message_or_protocol_error(bytes(frame))


def expect_message_or_protocol_error(data: bytes) -> None:
    try:
        session, message = decode_control(data)
    except ProtocolError:
        return
    assert len(session) in (0, m.ID_BYTES)
    assert isinstance(message, m.Message)


def test_reading_grants_keeps_no_memory() -> None:
    grant = encode_control(SESSION, m.Grant(1, 1, 0, 1, tuple(range(7))))
    assert blocks_kept_by(lambda: decode_control(grant)) < 100
