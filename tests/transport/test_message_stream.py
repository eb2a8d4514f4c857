"""Messages over a Unix socket: whole, in order, however the bytes are cut."""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enqueuer.transport.message_stream import MessageStream

MESSAGES = st.lists(st.tuples(st.booleans(), st.lists(st.binary(max_size=300), max_size=5)), min_size=1, max_size=8)


def ends() -> tuple[MessageStream, MessageStream]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return MessageStream(one), MessageStream(other)


@pytest.fixture
def streams() -> Iterator[tuple[MessageStream, MessageStream]]:
    pair = ends()
    yield pair
    for stream in pair:
        stream.close()


def plain(stream: MessageStream) -> list[tuple[bool, list[bytes]]]:
    return [(message.is_data, [bytes(frame) for frame in message.frames]) for message in stream.receive()]


def exchange(sender: MessageStream, receiver: MessageStream) -> list[tuple[bool, list[bytes]]]:
    """Read until the sender has sent all."""
    received = plain(receiver)
    while sender.is_waiting:
        sender.flush()
        received += plain(receiver)
    return received


def test_a_frame_may_have_more_than_4_gib(streams: tuple[MessageStream, MessageStream]) -> None:
    sender, receiver = streams
    size = 5 << 30
    with mmap.mmap(-1, size) as pages:  # never touched, so never there
        frame = memoryview(pages)
        sender.send([frame], is_data=True)
        assert struct.unpack("<IQQ", receiver.socket.recv(20)) == (1 << 31 | 1, size + 8, size)
        sender.close()
        frame.release()


def test_messages_arrive_whole_in_order_and_with_their_kind(streams: tuple[MessageStream, MessageStream]) -> None:
    sender, receiver = streams
    sender.send([b"hello"], is_data=False)
    sender.send([b"header", b"", memoryview(b"batch")], is_data=True)
    assert plain(receiver) == [(False, [b"hello"]), (True, [b"header", b"", b"batch"])]
    assert plain(receiver) == []


@given(messages=MESSAGES, cuts=st.lists(st.integers(1, 50), min_size=1))
def test_messages_arrive_whole_wherever_the_bytes_are_cut(
    messages: list[tuple[bool, list[bytes]]], cuts: list[int]
) -> None:
    source, drain = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    end, receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    sender, receiver = MessageStream(source), MessageStream(receiving)
    with drain, end:
        for is_data, frames in messages:
            sender.send(frames, is_data=is_data)
        sender.close()
        whole = b"".join(iter(lambda: drain.recv(65536), b""))
        received = []
        while whole:
            for cut in cuts:
                end.sendall(whole[:cut])
                whole = whole[cut:]
                received += plain(receiver)
        assert received == messages
    receiver.close()


def test_a_message_larger_than_any_buffer_arrives_while_its_receiver_reads(
    streams: tuple[MessageStream, MessageStream],
) -> None:
    sender, receiver = streams
    large = bytes(range(256)) * 20_000
    sender.send([b"before"], is_data=False)
    sender.send([large, b"end", large[:1000]], is_data=True)
    assert sender.is_waiting
    sender.send([b"after"], is_data=False)
    received = exchange(sender, receiver)
    assert received == [(False, [b"before"]), (True, [large, b"end", large[:1000]]), (False, [b"after"])]


def test_more_frames_than_the_kernel_takes_at_once_arrive(streams: tuple[MessageStream, MessageStream]) -> None:
    sender, receiver = streams
    frames = [bytes([number % 256]) * 40 for number in range(3_000)]
    sender.send(frames, is_data=True)
    assert exchange(sender, receiver) == [(True, frames)]


def test_a_full_socket_takes_more_once_the_other_end_has_read(streams: tuple[MessageStream, MessageStream]) -> None:
    sender, receiver = streams
    sender.send([bytes(4_000_000)], is_data=True)
    assert not sender.wait_until_writable(0.0)
    plain(receiver)
    assert sender.wait_until_writable(10.0)


def test_what_was_sent_before_the_end_is_received_first(streams: tuple[MessageStream, MessageStream]) -> None:
    sender, receiver = streams
    sender.send([b"stop"], is_data=False)
    sender.close()
    assert not receiver.has_ended
    assert plain(receiver) == [(False, [b"stop"])]
    assert plain(receiver) == []
    assert receiver.has_ended


def test_a_message_to_an_end_that_is_gone_is_dropped(streams: tuple[MessageStream, MessageStream]) -> None:
    sender, receiver = streams
    receiver.close()
    sender.send([b"lost"], is_data=False)
    assert not sender.is_waiting
    assert plain(sender) == [] and sender.has_ended


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff" * 12,  # frames without end
        b"\x01\0\0\0" + (2**40).to_bytes(8, "little"),  # a size that nobody sends
        b"\x01\0\0\0" + (6).to_bytes(8, "little") + (9).to_bytes(4, "little") + b"ab",  # a frame beyond its message
    ],
)
def test_bytes_that_are_no_message_are_refused(streams: tuple[MessageStream, MessageStream], junk: bytes) -> None:
    sender, receiver = streams
    sender.socket.send(junk)
    with pytest.raises(ValueError, match="a message of"):
        receiver.receive()
