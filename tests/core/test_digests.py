"""Two batches of one index compare field by field: exactly, or but for rounding, or not at all."""

from __future__ import annotations

import pytest

from enqueuer.core.digests import OBJECT, BatchDigest, Difference, find_difference

ONE: BatchDigest = {"batch": (b"tuple", b""), "batch[0]": (b"f4", b"0.1"), "batch[1]": (b"3", b"")}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"batch[1]": (b"4", b"")}, Difference("batch[1]", exact=True)),
        ({"batch[0]": (b"f4", b"0.2")}, Difference("batch[0]", exact=False)),
        ({"batch[0]": (b"f4", b"0.2"), "batch[1]": (b"4", b"")}, Difference("batch[1]", exact=True)),
        ({"batch[2]": (b"5", b"")}, Difference("batch[2]", exact=True)),
        ({"batch[1]": None}, None),
        ({"batch[0]": None, "batch[1]": (b"4", b"")}, Difference("batch[1]", exact=True)),
    ],
)
def test_the_first_exact_difference_is_named_before_one_of_rounding(
    changes: BatchDigest, expected: Difference | None
) -> None:
    other = {**ONE, **changes}
    assert find_difference(ONE, other) == find_difference(other, ONE) == expected


def test_what_one_side_cannot_look_into_is_not_compared_nor_what_is_below_it() -> None:
    opaque: BatchDigest = {"batch": (b"tuple", b""), "batch[0]": (b"f4", b"0.1"), "batch[1]": None}
    deep: BatchDigest = {**ONE, "batch[1]": (b"dict", b""), "batch[1]['a']": (b"1", b"")}
    assert find_difference(opaque, deep) is find_difference(deep, opaque) is None
    assert find_difference({"batch": None}, deep) is None


def test_an_object_is_compared_with_its_like_alone() -> None:
    one: BatchDigest = {"batch": (OBJECT, b""), "batch[part 0]": (b"1", b"")}
    other: BatchDigest = {"batch": (OBJECT, b""), "batch[part 0]": (b"2", b"")}
    assert find_difference(one, other) == Difference("batch[part 0]", exact=True)
    assert find_difference(one, ONE) is find_difference(ONE, one) is None
