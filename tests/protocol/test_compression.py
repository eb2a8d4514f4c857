"""Compressed buffers in result messages: they survive, only what shrinks is packed, and hostile ones are refused."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import msgpack
import numpy as np
import pytest
from hypothesis import given

from enqueuer.errors import ProtocolError
from enqueuer.memory.arena import Arena
from enqueuer.memory.mapped_blocks import MappedBlocks
from enqueuer.protocol.batch import CHUNK_BYTES, EncodedBatch, Trust, encode_batch
from enqueuer.protocol.compression import CODECS, MAX_EXPANSION, Codec, Compressor, find_codec
from enqueuer.protocol.results_codec import BatchPayload, Results, encode_results
from tests.protocol.test_results_codec import INCARNATION, SESSION, changed
from tests.support.batches import assert_same
from tests.support.results import decode_results

NOISE = np.random.default_rng(1).integers(0, 256, 300_000, np.uint8)
TEXT = np.arange(400_000) // 1000
PACKED = 12


def message(encoded: list[EncodedBatch]) -> list[bytes]:
    results = Results(INCARNATION, 1, 1, 1, 0.1, range(1, len(encoded) + 1), encoded)
    return [bytes(frame) for frame in encode_results(SESSION, results)]


def packed_message(name: str, *batches: object) -> list[bytes]:
    compressor = Compressor(find_codec(name))
    return message([compressor.pack(encode_batch(batch, Trust.REMOTE)) for batch in batches])


def decoded(frames: list[bytes], name: str) -> Sequence[BatchPayload]:
    return decode_results(frames, Trust.REMOTE, codec=find_codec(name))[2]


@pytest.mark.parametrize("name", CODECS)
def test_batches_survive_in_fewer_bytes_and_each_buffer_only_where_it_shrinks(name: str) -> None:
    batches: list[Any] = [(TEXT, NOISE, np.arange(3)), None, (NOISE,), {"x": TEXT.astype("f8"), "y": bytes(100_000)}]
    frames = packed_message(name, *batches)
    payloads = decoded(frames, name)
    assert_same([payload.build() for payload in payloads], batches)
    fields = msgpack.unpackb(frames[0])
    assert fields[PACKED][0][1] == 0 < fields[PACKED][0][0] < TEXT.nbytes // 2
    assert fields[PACKED][1:3] == [None, None]
    sent, whole = sum(map(len, frames)), sum(payload.nbytes for payload in payloads)
    assert sent == pytest.approx(whole - sum(payload.saved_bytes for payload in payloads), abs=500)


@pytest.mark.parametrize("name", CODECS)
def test_a_buffer_longer_than_a_chunk_survives_being_packed(name: str) -> None:
    batch = (np.concatenate([NOISE] * 10 + [np.zeros(8_000_000, np.uint8)]).reshape(100, -1),)
    frames = packed_message(name, batch)
    assert len(frames[1]) <= CHUNK_BYTES
    assert_same(decoded(frames, name)[0].build(), batch)


@pytest.mark.parametrize("name", CODECS)
def test_no_buffer_is_packed_to_less_than_a_receiver_unpacks(name: str) -> None:
    batch = (np.zeros(40_000_000, np.uint8),)
    frames = packed_message(name, batch)
    assert MAX_EXPANSION * sum(map(len, frames[1:])) >= 40_000_000
    assert_same(decoded(frames, name)[0].build(), batch)


def test_a_built_array_is_its_own_aligned_and_writable() -> None:
    (payload,) = decoded(packed_message("lz4", (TEXT,)), "lz4")
    (array,) = payload.build()
    assert array.flags.writeable
    assert array.ctypes.data % 64 == 0


def test_a_buffer_that_does_not_shrink_is_skipped_for_longer_each_time() -> None:
    tried = []
    codec = find_codec("lz4")

    def pack(buffer: Any) -> bytes:
        tried.append(batches_count)
        return codec.pack(buffer)

    compressor = Compressor(Codec(pack, codec.unpack, codec.max_bytes))
    for batches_count in range(200):  # noqa: B007 - read by pack
        compressor.pack(encode_batch((NOISE,), Trust.REMOTE))
    assert tried == [0, 2, 5, 10, 19, 36, 69, 134, 199]


def test_a_buffer_that_begins_to_shrink_is_packed_each_time_again() -> None:
    compressor = Compressor(find_codec("lz4"))
    for array in (NOISE, NOISE, TEXT, TEXT, TEXT):
        packed = compressor.pack(encode_batch((array,), Trust.REMOTE))
    assert packed.packed_sizes is not None


def test_a_buffer_too_long_for_the_library_is_not_packed() -> None:
    codec = find_codec("lz4")
    compressor = Compressor(Codec(codec.pack, codec.unpack, max_bytes=TEXT.nbytes - 1))
    encoded = encode_batch((TEXT,), Trust.REMOTE)
    assert compressor.pack(encoded) is encoded


def test_a_batch_in_shared_memory_is_not_packed() -> None:
    mapped = MappedBlocks()
    encoded = encode_batch((TEXT,), Trust.REMOTE, Arena(lambda slab_id, fd: mapped.add(INCARNATION, slab_id, fd)))
    assert encoded.block is not None
    assert Compressor(find_codec("lz4")).pack(encoded) is encoded


def test_a_batch_without_large_buffers_is_not_packed() -> None:
    encoded = encode_batch((np.zeros(100), "text"), Trust.REMOTE)
    assert Compressor(find_codec("lz4")).pack(encoded) is encoded


def test_compressed_buffers_that_were_not_asked_for_are_refused() -> None:
    with pytest.raises(ProtocolError):
        decode_results(packed_message("lz4", (TEXT,)), Trust.REMOTE)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        [],
        [None, None],
        [5],
        [[]],
        [[1, 1]],
        [[-1]],
        [[True]],
        [[2.0]],
        [[1]],
        [[TEXT.nbytes]],
        [[1 << 62]],
        [[TEXT.nbytes // 255]],
        [[0]],
        [None],
    ],
    ids=repr,
)
def test_sizes_that_do_not_fit_the_frames_are_refused(name: str, value: Any) -> None:
    frames = packed_message(name, (TEXT,))
    assert decoded(frames, name)
    with pytest.raises(ProtocolError):
        decoded(changed(frames, PACKED, value), name)


@pytest.mark.parametrize("name", CODECS)
def test_a_packed_buffer_that_claims_to_be_larger_than_its_batch_says_is_refused(name: str) -> None:
    """The packed frame and the batch header disagree about the size, in both directions."""
    honest = encode_batch((TEXT,), Trust.REMOTE)
    codec = find_codec(name)
    for content in (bytes(TEXT.nbytes - 8), bytes(TEXT.nbytes + 8)):
        packed = codec.pack(content)
        if name == "zstd":
            packed = packed.ljust(TEXT.nbytes // 200, b"\0")
        lie = EncodedBatch(honest.header, b"", (packed,), 0, packed_sizes=(len(packed),))
        with pytest.raises(ProtocolError):
            decoded(message([lie]), name)


@pytest.mark.parametrize("name", CODECS)
@given(data=st.binary(min_size=1, max_size=10_000))
def test_unpacking_restores_what_was_packed(name: str, data: bytes) -> None:
    codec = find_codec(name)
    assert codec.unpack(memoryview(codec.pack(memoryview(data))), len(data)) == data


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("difference", [-1, 1, 1 << 20])
def test_a_buffer_of_another_size_than_announced_is_refused(name: str, difference: int) -> None:
    codec = find_codec(name)
    with pytest.raises(ProtocolError):
        codec.unpack(codec.pack(bytes(50_000)), 50_000 + difference)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("nbytes", [1 << 31, 1 << 40, (1 << 62) - 1])
def test_a_size_beyond_the_library_is_a_protocol_error(name: str, nbytes: int) -> None:
    codec = find_codec(name)
    with pytest.raises(ProtocolError):
        codec.unpack(codec.pack(bytes(50_000)), nbytes)


@pytest.mark.parametrize("name", CODECS)
@given(data=st.binary(max_size=200), nbytes=st.integers(0, 50_000))
def test_any_bytes_unpack_to_the_announced_size_or_are_a_protocol_error(name: str, data: bytes, nbytes: int) -> None:
    try:
        unpacked = find_codec(name).unpack(data, nbytes)
    except ProtocolError:
        return
    assert len(unpacked) == nbytes


@pytest.mark.parametrize("name", CODECS)
@given(data=st.data())
def test_a_packed_buffer_with_changed_bytes_never_has_another_size(name: str, data: st.DataObject) -> None:
    codec = find_codec(name)
    packed = bytearray(codec.pack(b"some text, and more of it, " * 300))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        assert len(codec.unpack(bytes(packed), 8100)) == 8100


@pytest.mark.parametrize(("name", "module"), [("lz4", "lz4.block"), ("zstd", "zstandard")])
def test_without_its_library_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"enqueuer\[compression\]"):
        find_codec(name)
