"""The drawn order of an epoch: the same batches of keys, in the same order, after any journey."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from enqueuer.errors import ConfigurationError, ProtocolError
from enqueuer.protocol import drawn_order
from enqueuer.protocol.batch import Trust
from enqueuer.protocol.drawn_order import DrawnOrder, carried_order, named_order, order_path, read_carried_order

ORDERS: dict[str, list[list[Any]]] = {
    "none": [],
    "integers": [[3, 1], [2], [0, 4]],
    "an empty batch": [[], [1], []],
    "large integers": [[2**40], [2**63 - 1]],
    "negative integers": [[-1, 5]],
    "huge integers": [[2**70]],
    "texts": [["a"], ["b", "c"]],
    "tuples": [[(1, "a")], [(2, "b")]],
    "a mixture": [[1, "a"], [None]],
    "flags": [[True], [False]],
}


def batches_of(order: DrawnOrder) -> list[list[Any]]:
    return [order.batch(index) for index in range(len(order))]


@pytest.mark.parametrize("batches", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("trust", Trust)
def test_the_same_batches_come_out_of_the_parts(batches: list[list[Any]], trust: Trust) -> None:
    order = DrawnOrder.of(batches)
    again = DrawnOrder.from_parts([bytes(part) for part in order.to_parts(trust)], trust)
    for one in (order, again):
        assert batches_of(one) == batches
        assert [[type(key) for key in batch] for batch in batches_of(one)] == [
            [type(key) for key in batch] for batch in batches
        ]
    assert again.digest == order.digest


def test_integers_of_numpy_are_pythons() -> None:
    order = DrawnOrder.of([np.array([3, 1]), [np.int16(2), np.array(4)]])
    assert batches_of(order) == [[3, 1], [2, 4]]
    assert order.digest == DrawnOrder.of([[3, 1], [2, 4]]).digest


def test_any_iterables_are_batches() -> None:
    assert batches_of(DrawnOrder.of(iter((range(2), (5,))))) == [[0, 1], [5]]


def test_most_orders_take_four_bytes_a_key() -> None:
    order = DrawnOrder.of([[number] for number in range(1000)])
    keys_and_ends = sum(len(part) for part in order.to_parts(Trust.LOCAL))
    assert keys_and_ends < 1000 * (4 + 8) + 1000


def test_digests_tell_orders_and_batches_apart() -> None:
    orders = [[[1, 2]], [[2, 1]], [[1], [2]], [["1", "2"]], [[1, 2], []]]
    assert len({DrawnOrder.of(batches).digest for batches in orders}) == len(orders)


@pytest.mark.parametrize("index", [2, -3])
@pytest.mark.parametrize("batches", [[[1], [2]], [["a"], ["b"]]])
def test_a_batch_that_is_not_there_is_an_index_error(batches: list[list[Any]], index: int) -> None:
    with pytest.raises(IndexError):
        DrawnOrder.of(batches).batch(index)


def test_keys_that_cannot_travel_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="the keys that the sampler gives cannot be sent"):
        DrawnOrder.of([[object()]]).to_parts(Trust.REMOTE)


def test_a_state_carries_the_order() -> None:
    order = DrawnOrder.of([[3, 1], [2]])
    again = read_carried_order(carried_order(order.to_parts(Trust.REMOTE)))
    assert again is not None
    assert batches_of(again) == [[3, 1], [2]]
    assert read_carried_order({}) is None
    assert read_carried_order(None) is None


def test_an_order_above_the_limit_is_refused_with_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn_order, "CARRIED_LIMIT_BYTES", 10)
    with pytest.raises(ConfigurationError, match="shuffle=True of from_dataset"):
        carried_order(DrawnOrder.of([[3, 1]]).to_parts(Trust.REMOTE))


def test_a_state_names_the_segment() -> None:
    assert order_path(named_order("/a/path")) == "/a/path"
    assert order_path({}) is None
    assert order_path({"order_path": 3}) is None
    assert order_path("text") is None


@pytest.mark.parametrize(
    "parts",
    ["text", [], [b""], [b"", "text"], [b"x", b"y"], [b"", b"", b"", b""]],
)
def test_a_malformed_order_is_a_protocol_error(parts: Any) -> None:
    with pytest.raises(ProtocolError):
        read_carried_order({"order_parts": parts})


@pytest.mark.parametrize(
    "value",
    [
        (np.array([1, 2]), np.array([1])),
        (np.array([1, 2]), np.array([2, 1, 2])),
        (np.array([1, 2]), np.array([-1, 2])),
        (np.array([[1], [2]]), np.array([2])),
        (np.array([0.5]), np.array([1])),
        [[1], 2],
        "text",
    ],
)
def test_a_batch_that_is_no_order_is_a_protocol_error(value: Any) -> None:
    encoded = drawn_order.encode_batch(value, Trust.LOCAL)
    parts = [encoded.header, encoded.inline, *(memoryview(frame).cast("B") for frame in encoded.frames)]
    with pytest.raises(ProtocolError):
        DrawnOrder.from_parts(parts, Trust.LOCAL)


def test_parts_that_are_cut_short_are_a_protocol_error() -> None:
    header, inline, *frames = DrawnOrder.of([[1] * 10_000]).to_parts(Trust.LOCAL)
    for parts in ([header, inline[:-1], *frames], [header, inline, *frames, b"more"]):
        with pytest.raises(ProtocolError):
            DrawnOrder.from_parts(parts, Trust.LOCAL)
