"""Valid inputs of every decoder: what fuzzing starts from."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import numpy as np

from enqueuer.compute.error_records import record_error
from enqueuer.protocol import messages as m
from enqueuer.protocol.batch import EncodedBatch, Trust, describe_dtype, encode_batch
from enqueuer.protocol.batch import format as f
from enqueuer.protocol.compression import Compressor, find_codec
from enqueuer.protocol.control_codec import encode_control
from enqueuer.protocol.observation import Snapshot, WorkerRow
from enqueuer.protocol.results_codec import Results, encode_results
from enqueuer.security.keys import CoordinatorKey, WorkerToken, public_key_of
from enqueuer.stream.ranges import Ranges
from enqueuer.stream.state import ResumeState
from enqueuer_worker.settings import ChildSettings, Settings, encode_line

SESSION = b"s" * m.ID_BYTES
INCARNATION = b"i" * m.ID_BYTES


def _snapshot() -> Snapshot:
    row = WorkerRow("w", "host", 42, "serving", 1, 2, 100, 2**40, 0.01, 0.009, 0.02, (3, 17, 0.25), 2**28)
    return Snapshot(
        *("0.2.0", "host", 42, 60.5, 1.5, 3, 20, 50, 1, 0, 5, 12, 2, 2, 1, 0),
        *(4_000, 2**40, 2**39, 1.0, 12.5, 1.0, 80.0, 0.5, 0, 1, 2, 3, 4, 5, 6, 7),
        *("too few workers", 0.2, 3, "a sentence", "a cure", 30.0, 2_000, (0, 7, 2**40)),
        *(((1, 0.5, "joined", "w on host"),), 1, 0, (row,), 1.25),
        *(2**31, 2**32, 2**38, 70.5, 2**33, 4.5),
        *(83.3, 0.02, 0.97, None, 0.0, 0.0, 0.0, 0.4, 0.7),
    )


def _errors() -> list[m.ErrorRecord]:
    errors: list[BaseException] = [
        ValueError("bad", 1, 2.5, None, b"x", (1, [2, {3: "c"}]), {4}, np.float32(1), 2**80, 1j, np.dtype("<f8")),
        FileNotFoundError(2, "No such file", "a/b"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        SyntaxError("no", ("f.py", 1, 2, "text")),
    ]
    chained = KeyError("outer")
    chained.__cause__ = ValueError("inner")
    return [record_error(error, trust_local=False) for error in [*errors, chained]]


def control() -> list[bytes]:
    error = _errors()[0]
    said: list[m.Message] = [
        m.Hello(1, m.Role.WORKER, "w-0", INCARNATION, b"p" * 16, 3, "host", 99, "2.1.0", "0.1.0", b"", (1, 2, 9), 4),
        m.Hello(1, m.Role.SUPERVISOR, "w", INCARNATION, INCARNATION, 0, "host", 99, "", "0.1.0", b"secret", (), 0),
        m.Ready(1, 2, 100, b"digest"),
        m.Ready(1, 2, 100, b"", True, (("module:NAME", "1"),)),
        m.Heartbeat((5, 6, 7, 9), 9, 2, 3, 5, 12.5, 0.001, 80.5, 2**40, 1.5, 2**30),
        *(m.Failure(1, 2, 7, record) for record in _errors()),
        m.LoadFailure(1, 2, error),
        m.Drain(),
        m.Goodbye(7),
        m.WorkerExited(INCARNATION, 1, -9, 7, True, "stack"),
        m.Children((INCARNATION, SESSION)),
        m.Log(20, "stdout", "a line"),
        m.Welcome("tcp://*:5556", 1.0, 30.0, 3, ["m:f", {"count": 3}], {"max_batches": None}),
        m.Reject("no"),
        m.Epoch(1, 2, 3, {"epoch_ends": [[1, 2, 3]]}),
        m.HeartbeatReply(3, 4, 12.5),
        m.Grant(1, 2, 3, 4, (9, 8, 7)),
        m.Revoke((1, 2, 3)),
        m.Bye(),
        m.WhoAreYou(),
        m.Stop(),
        m.NoBlocks(),
        m.Observe(0, 128, 0),
        _snapshot(),
    ]
    return [encode_control(SESSION, message) for message in said]


def _batches() -> list[Any]:
    record = np.zeros(2, [("a", "<f4"), ("b", "<i2", (2, 2))])
    return [
        None,
        (np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(2, np.int64)),
        {"x": [1, 2.5, "text", b"bytes", None, True], ("k", 1): np.float64(2), "big": 2**90},
        (np.array(["a", None, 3], object), np.array(["u", "vw"]), np.datetime64("2020-01-01"), 1 + 2j),
        [np.zeros((0, 3)), np.asfortranarray(np.ones((2, 3))), np.float32(1), np.str_("s"), record, bytearray(b"ab")],
    ]


def _encoded() -> list[EncodedBatch]:
    """The last one has frames of its own, though they are small."""
    nodes: list[Any] = [[f.TUPLE, 2], [f.ARRAY, f.FRAME, "<f4", [2, 5], "C"], [f.BYTES, f.FRAME, 8]]
    framed = EncodedBatch(b"".join(map(msgpack.packb, nodes)), b"", (bytes(40), bytes(8)), 100)
    return [*(encode_batch(batch, Trust.REMOTE) for batch in _batches()), framed]


def batch_headers() -> list[bytes]:
    return [batch.header for batch in _encoded()]


def results(codec: str = "lz4") -> list[bytes]:
    """Result messages, their frames in one msgpack array."""
    batches = _encoded()
    packed = Compressor(find_codec(codec)).pack(encode_batch((np.zeros(10_000), 1), Trust.REMOTE))
    groups = [batches, batches[:1], batches[1:3], batches[-1:], [packed, batches[-1]]]
    messages = [Results(INCARNATION, 1, 2, 3, 0.5, range(7, 7 + len(group)), group) for group in groups]
    return [bytes(msgpack.packb([bytes(frame) for frame in encode_results(SESSION, results)])) for results in messages]


def dtypes() -> list[bytes]:
    nested = np.dtype([("a", "<f4"), ("b", [("c", "|S3"), (("title", "d"), "<M8[25s]", (2, 3))])], align=True)
    found = [np.dtype(np.float32), np.dtype("S7"), np.dtype("<U3"), nested]
    return [bytes(msgpack.packb(describe_dtype(dtype))) for dtype in found] + [bytes(msgpack.packb("bfloat16"))]


def error_records() -> list[bytes]:
    """As fields of a message: the array of an error alone."""
    return [bytes(msgpack.packb(_fields(record))) for record in _errors()]


def _fields(record: m.ErrorRecord) -> list[Any]:
    cause = None if record.cause is None else _fields(record.cause)
    names = (record.module, record.qualname, record.text, record.traceback)
    return [*names, record.args, record.attributes, cause, record.pickled_type]


def epoch_ends() -> list[bytes]:
    return [bytes(msgpack.packb(runs)) for runs in ([], [[7, 0, 3], [8, 3, 1]], [[2**64 - 1, 5, 1_000_000]])]


def states() -> list[bytes]:
    state = ResumeState(7, 3, 100, True, (0, 2), "drop", 100, taken=Ranges([(0, 10), (12, 13)]), skipped_count=1)
    other = ResumeState(7, 3, 100, True, (1, 2), "drop", 100, taken=Ranges([(0, 11)]), epoch_ends=((7, 0, 3),))
    return [json.dumps(value).encode() for value in (state.to_json(), [state.to_json(), other.to_json()])]


def settings_lines() -> list[bytes]:
    common = Settings(
        connect="tcp://host:1",
        supervisor="ab" * 16,
        name="name",
        secret="cd" * 32,
        sequences=("m:f",),
        packages=("p",),
    )
    return [ChildSettings(common, 1, "ef" * 16, 5, 77).to_line(), ChildSettings(common, 0, "", None, 1).to_line()]


def commands() -> list[bytes]:
    return [encode_line({"command": "stop"}), encode_line({"attach": "ipc://x", "n": [1, {"a": None}]})]


def targets() -> list[bytes]:
    return [b"package.module:callable", b"m:f", b"a.b.c:D", b"__main__:f", b"os:system", b"a..b:c"]


def tokens() -> list[bytes]:
    return [WorkerToken(public_key_of(bytes(32)), b"k" * 32).to_text().encode()]


def key_files() -> list[bytes]:
    return [CoordinatorKey(b"k" * 32, {"worker": public_key_of(bytes(32))}).to_text().encode()]


def slab_names() -> list[bytes]:
    name = b"enqueuer-" + b"0123456789abcdef" * 2
    return [name, b"/dev/shm/" + name, b"../" + name, name + b"/../x", name + b"\n", name + b"\0"]
