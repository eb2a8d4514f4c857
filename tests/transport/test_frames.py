"""Multipart messages: whole, in order, and without waiting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from enqueuer.transport.frames import receive_frames, send_frames
from enqueuer.transport.sockets import new_context

Pair = tuple[zmq.Socket[bytes], zmq.Socket[bytes]]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with new_context() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as other:
        one.setsockopt(zmq.SNDHWM, 1)
        other.setsockopt(zmq.RCVHWM, 1)
        other.bind("inproc://pair")
        one.connect("inproc://pair")
        yield one, other


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("frames", [[b""], [b"one"], [b"one", b"", b"three" * 100_000], [memoryview(b"view"), b"end"]])
def test_a_message_arrives_as_it_was_sent(pair: Pair, frames: list[bytes], copy: bool) -> None:
    send_frames(pair[0], frames, copy=copy)
    send_frames(pair[0], (b"next",))
    assert [frame.bytes for frame in receive_frames(pair[1])] == [bytes(frame) for frame in frames]
    assert [frame.bytes for frame in receive_frames(pair[1])] == [b"next"]


def test_neither_end_waits_for_a_message_or_for_room(pair: Pair) -> None:
    with pytest.raises(zmq.Again):
        receive_frames(pair[1])
    with pytest.raises(zmq.Again):
        for _ in range(10):
            send_frames(pair[0], (b"one", b"two"))
    while pair[1].poll(0):
        assert len(receive_frames(pair[1])) == 2
