"""Compression libraries: what they make of bytes, good and bad."""

from __future__ import annotations

import contextlib
import sys

import hypothesis.strategies as st
import pytest
from hypothesis import given

from enqueuer.errors import ProtocolError
from enqueuer.transport.codecs import CODECS, find_codec


@pytest.mark.parametrize("name", CODECS)
@given(data=st.binary(min_size=1, max_size=10_000))
def test_what_was_packed_comes_out_again(name: str, data: bytes) -> None:
    codec = find_codec(name)
    assert codec.unpack(memoryview(codec.pack(memoryview(data))), len(data)) == data


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("difference", [-1, 1, 1 << 20])
def test_another_size_than_was_said_is_refused(name: str, difference: int) -> None:
    codec = find_codec(name)
    with pytest.raises(ProtocolError):
        codec.unpack(codec.pack(bytes(50_000)), 50_000 + difference)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("nbytes", [1 << 31, 1 << 40, (1 << 62) - 1])
def test_a_size_that_no_library_can_make_is_an_error_of_the_peers(name: str, nbytes: int) -> None:
    codec = find_codec(name)
    with pytest.raises(ProtocolError):
        codec.unpack(codec.pack(bytes(50_000)), nbytes)


@pytest.mark.parametrize("name", CODECS)
@given(data=st.binary(max_size=200), nbytes=st.integers(0, 50_000))
def test_any_bytes_are_read_or_are_an_error_of_the_peers(name: str, data: bytes, nbytes: int) -> None:
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
