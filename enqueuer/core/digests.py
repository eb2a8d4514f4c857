"""Digests of batches: how two batches of one index compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

FieldDigest: TypeAlias = tuple[bytes, bytes] | None
# The digests of a batch's fields, by the fields' names: an exact one, and one of the parts that another machine may
# round otherwise. None: the field and all below it are not compared.
BatchDigest: TypeAlias = Mapping[str, FieldDigest]
# The exact digest of an object known by its parts alone. One worker may send it as an object, and another one as the
# plain value it stands for, so it is compared with its like alone.
OBJECT = b"object"


class Difference(NamedTuple):
    """The first field in which two batches of one index differ; ``exact``: in structure, integers or texts."""

    field: str
    exact: bool


def find_difference(one: BatchDigest, other: BatchDigest) -> Difference | None:
    """The first exact difference, else the first one in the rest, else None."""
    opaque = tuple(name for name in one.keys() & other.keys() if _is_opaque(one[name], other[name]))
    rest = None
    for name in dict.fromkeys((*one, *other)):
        if name.startswith(opaque):
            continue
        mine, others = one.get(name), other.get(name)
        if mine is None or others is None or mine[0] != others[0]:
            return Difference(name, exact=True)
        if rest is None and mine[1] != others[1]:
            rest = Difference(name, exact=False)
    return rest


def _is_opaque(one: FieldDigest, other: FieldDigest) -> bool:
    return one is None or other is None or (one[0] == OBJECT) != (other[0] == OBJECT)
