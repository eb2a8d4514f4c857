"""Many plain values travel as one pickle where pickles are read, and arrive as they would node by node."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from enqueuer.protocol.batch import Trust, encode_batch, parse_batch
from enqueuer.protocol.batch.format import MAX_NODES
from tests.support.batches import assert_same

TRUSTED = [Trust.LOCAL, Trust.KEYED]


class Kind(enum.Enum):
    TEXT = "text"


@dataclass
class Row:
    number: int
    words: list[str]


class Tensor:
    """Stands for one of torch: recognised by the module of its class."""

    def __init__(self, values: list[int]) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        return np.array(self.values, dtype)


Tensor.__module__ = "torch"

TOKENS = [[number * 7919 % 50_000 for number in range(row, row + 100)] for row in range(80)]

MANY_VALUES = {
    "lists of integers": TOKENS,
    "a flat list": list(range(1000)),
    "pairs": [(number, str(number), number / 3, None, True) for number in range(1000)],
    "records": [{"id": number, "tags": [str(number), b"x" * number]} for number in range(200)],
    "small containers in small containers": [[[[[number, (number,)] for number in range(6)]] * 6] * 6] * 6,
    "a dict with many keys": {number: (number, 2**80 + number) for number in range(20_000)},
    "a dict with keys of other classes": {Kind.TEXT: TOKENS},
    "NumPy scalars": [np.float32(number) for number in range(100)] + [np.datetime64(100, "D"), np.str_("a\0")],
    "objects": [Row(number, [str(number)]) for number in range(100)],
    "dates and sets": [(datetime.date(2020, 1, 1 + number), {number}) for number in range(30)] * 30,
    "objects in an array": np.array([str(number) for number in range(100)], object).reshape(5, 20),
    "structured values": (TOKENS, {"label": [Kind.TEXT] * 100}, None),
}


def carry(batch: object, trust: Trust) -> Any:
    encoded = encode_batch(batch, trust)
    return parse_batch(encoded.header, trust).build(encoded.inline, encoded.frames)


@pytest.mark.parametrize("trust", TRUSTED)
@pytest.mark.parametrize("batch", MANY_VALUES.values(), ids=MANY_VALUES.keys())
def test_many_values_arrive_as_they_are_and_take_few_nodes(batch: object, trust: Trust) -> None:
    assert_same(carry(batch, trust), batch)
    # A node for each value would take a byte each at the least.
    assert len(encode_batch(batch, trust).header) < 4000


def test_remote_workers_send_a_node_for_each_value() -> None:
    encoded = encode_batch(TOKENS, Trust.REMOTE)
    assert len(encoded.header) > 8000
    assert_same(carry(TOKENS, Trust.REMOTE), TOKENS)


@pytest.mark.parametrize("trust", TRUSTED)
def test_more_values_arrive_than_a_header_may_have_nodes(trust: Trust) -> None:
    batch = [*range(MAX_NODES), "last"]
    assert carry(batch, trust) == batch


@pytest.mark.parametrize("trust", TRUSTED)
def test_arrays_among_many_values_keep_their_nodes(trust: Trust) -> None:
    images = [np.full((3, 5), number, "f4", order="F") for number in range(80)]
    images[0].flags.writeable = False
    batch = [{"tokens": tokens, "image": image} for tokens, image in zip(TOKENS, images, strict=True)]
    carried = carry(batch, trust)
    assert_same(carried, batch)
    assert all(record["image"].flags.writeable for record in carried)


@pytest.mark.parametrize("trust", TRUSTED)
def test_tensors_among_many_values_become_arrays(trust: Trust) -> None:
    carried = carry([*TOKENS, {"deep": [Tensor([1, 2])]}], trust)
    assert_same(carried, [*TOKENS, {"deep": [np.array([1, 2])]}])


@pytest.mark.parametrize("trust", TRUSTED)
def test_very_many_arrays_arrive_writable_and_in_their_memory_order(trust: Trust) -> None:
    batch: list[Any] = [(number, np.full((2, 3), number, "i4", order="F")) for number in range(12_000)]
    batch[0][1].flags.writeable = False
    carried = carry(batch, trust)
    assert_same(carried[:100], batch[:100])
    assert carried[-1][1].tolist() == batch[-1][1].tolist()
    assert all(array.flags.writeable and array.flags.f_contiguous for _, array in carried)


@pytest.mark.parametrize("trust", TRUSTED)
def test_deep_batches_arrive_as_they_are(trust: Trust) -> None:
    batch: Any = np.arange(3)
    for _ in range(200):
        batch = [batch]
    carried = carry(batch, trust)
    for _ in range(200):
        (carried,) = carried
    assert_same(carried, np.arange(3))


@pytest.mark.parametrize("trust", TRUSTED)
def test_values_that_are_shared_exponentially_stay_shared(trust: Trust) -> None:
    batch: Any = [np.arange(3)]
    for _ in range(40):
        batch = [batch, batch]
    carried = carry(batch, trust)
    assert carried[0] is carried[1]
