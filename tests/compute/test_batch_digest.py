"""A batch has the same digest however it came, and another one where another worker has computed something else."""

from __future__ import annotations

import datetime
from collections import OrderedDict, defaultdict, namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from enqueuer.compute.batch_digest import BatchDigest, digest_batch, digest_payload
from enqueuer.protocol.batch import Trust, encode_batch, parse_batch
from enqueuer.protocol.results_codec import BuiltPayload, Payload
from tests.support.batches import BATCHES

Pair = namedtuple("Pair", "image label")


def received(batch: Any, trust: Trust) -> Payload:
    encoded = encode_batch(batch, trust)
    plan = parse_batch(encoded.header, trust)
    return Payload(plan, encoded.inline, 0, encoded.frames, encoded.nbytes)


def differs(one: Any, other: Any) -> tuple[bool, bool]:
    """Whether any field differs exactly, and whether any differs in the rest."""
    first, second = digest_batch(one), digest_batch(other)
    if first.keys() != second.keys():
        return True, False
    pairs = [(a, b) for a, b in zip(first.values(), second.values(), strict=True) if a is not None and b is not None]
    return any(a[0] != b[0] for a, b in pairs), any(a[1] != b[1] for a, b in pairs)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, 1.0),
        ("a.png", "b.png"),
        ([1, 2], (1, 2)),
        ([1, 2], [1, 2, 3]),
        ({"a": 1}, {"b": 1}),
        (None, 0),
        (np.arange(3), np.arange(1, 4)),
        (np.zeros(3), np.zeros(4)),
        (np.zeros(3), np.zeros((3, 1))),
        (np.zeros(3, "f4"), np.zeros(3, "f8")),
        (np.array(["a"]), np.array(["b"])),
        (np.array("2020-01-01", "M8[D]"), np.array("2020-01-02", "M8[D]")),
        (np.array([1, "a"], object), np.array([1, "b"], object)),
        (np.int64(1), np.int64(2)),
        (np.zeros(2, [("at", "i8"), ("x", "f4")]), np.ones(2, [("at", "i8"), ("x", "f4")])),
        ({1, 2}, {1, 3}),
    ],
)
def test_structure_integers_texts_and_dates_are_exact(one: Any, other: Any) -> None:
    assert differs(one, other)[0]
    assert differs(one, one) == differs(other, other) == (False, False)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.1, 0.2),
        (True, False),
        (b"jpeg", b"JPEG"),
        (np.zeros(3), np.ones(3)),
        (np.zeros(3, "u1"), np.ones(3, "u1")),
        (np.zeros(3, "i2"), np.ones(3, "i2")),
        (np.zeros(3, bool), np.ones(3, bool)),
        (np.zeros(3, complex), np.ones(3, complex)),
        (np.float32(0), np.float32(1)),
    ],
)
def test_floats_flags_bytes_and_small_integers_may_round_otherwise(one: Any, other: Any) -> None:
    assert differs(one, other) == (False, True)


@given(BATCHES)
def test_a_batch_has_the_same_digest_from_threads_processes_and_other_hosts(batch: Any) -> None:
    digests: list[BatchDigest | None] = [digest_payload(BuiltPayload(batch, 1))]
    for trust in Trust:
        try:
            digests.append(digest_payload(received(batch, trust)))
        except Exception:
            assert trust is Trust.REMOTE, "it cannot travel there"
    for digest in digests:
        assert digest is not None
        for name in digest.keys() & digests[0].keys():  # type: ignore[union-attr]
            mine, others = digest[name], digests[0][name]  # type: ignore[index]
            assert mine is None or others is None or mine == others, name


def test_containers_that_travel_as_another_kind_are_the_same() -> None:
    plain = {"ids": np.arange(3), "names": ["a", "b"]}
    kept = defaultdict(list, plain)
    assert digest_batch(OrderedDict(plain)) == digest_batch(plain) == digest_batch(kept)
    for trust in Trust:
        assert digest_payload(received(OrderedDict(plain), trust)) == digest_batch(plain)


def test_the_order_of_a_dicts_keys_and_of_memory_is_not_compared() -> None:
    assert digest_batch({"a": 1, "b": 2}) == digest_batch({"b": 2, "a": 1})
    array = np.arange(12).reshape(3, 4)
    assert digest_batch(array) == digest_batch(np.asfortranarray(array)) == digest_batch(array[:, ::-1][:, ::-1])
    assert digest_batch(array) == digest_batch(array.astype(">i8"))


def test_a_list_that_was_pickled_for_its_length_is_compared() -> None:
    names = [f"{number}.png" for number in range(500)]
    digest = digest_payload(received(names, Trust.LOCAL))
    assert digest == digest_payload(received(names, Trust.REMOTE)) == digest_batch(names)
    assert digest != digest_payload(received(names[::-1], Trust.LOCAL))


def test_objects_are_compared_by_their_parts_where_both_sides_pickle_them() -> None:
    one, same, other = (received(Pair(np.zeros(3), label), Trust.KEYED) for label in (1, 1, 2))
    assert digest_payload(one) == digest_payload(same)
    assert digest_payload(one) != digest_payload(other)


def test_an_object_that_cannot_be_looked_into_is_opaque() -> None:
    assert digest_batch((datetime.date(2020, 1, 1), 2))["batch[0]"] is None
    assert digest_payload(object()) is None


def test_the_work_is_bounded() -> None:
    assert len(digest_batch(list(range(100_000)))) <= 4096
    large = np.zeros(8 * 1024 * 1024, np.int64)
    changed = large.copy()
    changed[-1] = 1
    assert digest_batch(large) == digest_batch(changed), "only the first bytes are read"
    changed[0] = 1
    assert digest_batch(large) != digest_batch(changed)


def test_a_list_that_holds_itself_ends() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert None in digest_batch(endless).values()


def test_tensors_are_compared_as_arrays() -> None:
    torch = pytest.importorskip("torch")
    assert digest_batch(torch.arange(3)) == digest_batch(np.arange(3))
