"""The order of an epoch and the size of a shard: pure functions of (seed, epoch, length, shuffle, shard).

Up to LISTED_LENGTH indices are shuffled as a list. A longer order is computed: a function gives the index at a
position, and nothing is stored, so a length that stands for "without end" costs nothing. Both orders belong to the
meaning of a resume state: changing either, or the limit, would change what saved states resume with.
"""

from __future__ import annotations

import hashlib
import math
import random
import sys
from array import array
from collections.abc import Sequence
from typing import Any

_64_BITS = 2**64 - 1
# Mixes the bits of a key and a digit: the first multiplier of SplitMix64 (Steele, Lea and Flood, 2014).
_ODD = 0xBF58476D1CE4E5B9

# Shuffling this many takes a second, and 8 MB.
LISTED_LENGTH = 2**20


def shard_length(length: int, shard: tuple[int, int], remainder: str) -> int:
    """The number of batches of each rank in an epoch, the same for every rank.

    ``remainder="drop"`` leaves out the last batches of the (shuffled) order, up to ``world_size - 1``: no batch comes
    twice. ``"repeat"`` starts again at the order's beginning: no batch is missed.
    """
    _, world_size = shard
    rounded_up = -(-length // world_size)
    # A length near the largest that Python has stands for "without end": its last batches never come.
    if remainder == "drop" or rounded_up * world_size > sys.maxsize:
        return length // world_size
    return rounded_up


def permutation(seed: int, epoch: int, length: int, *, shuffle: bool) -> Sequence[int]:
    """All indices of an epoch, in the order that all ranks share."""
    if not shuffle:
        return range(length)
    # A text seed is hashed with SHA-512 (CPython's `random.seed`, version 2), so neighbouring epochs are unrelated.
    text = f"{seed}:{epoch}"
    if length > LISTED_LENGTH:
        return ComputedPermutation(text, length)
    permuted = array("q", range(length))
    # From the text, `shuffle` makes the same order on every platform and Python since 3.2.
    random.Random(text).shuffle(permuted)
    return permuted


class ComputedPermutation(Sequence[int]):
    """A permutation of ``range(length)``; each entry is computed on access, in some 4 µs.

    A position is a pair (left, right) of digits to two bases of about the root of the length. Each of eight rounds
    adds a keyed hash of one digit to the other one, which can be undone, so no two positions meet (a Feistel network;
    Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). A pair beyond the length goes through the rounds
    again until it is within ("cycle walking" there); about one in the root of the length does.
    """

    __slots__ = ("_keys", "_left_base", "_length", "_right_base")

    def __init__(self, text: str, length: int) -> None:
        """The permutation that belongs to this text."""
        self._length = length
        self._right_base = max(1, math.isqrt(length))
        self._left_base = -(-length // self._right_base)
        digest = hashlib.sha512(text.encode()).digest()
        words = [int.from_bytes(digest[at : at + 8], "little") for at in range(0, 64, 8)]
        self._keys = list(zip(words[::2], words[1::2], strict=True))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: Any) -> Any:
        index = range(self._length)[position]
        if isinstance(index, range):
            return [self[one] for one in index]
        left_base, right_base, keys = self._left_base, self._right_base, self._keys
        while True:
            left, right = divmod(index, right_base)
            for left_key, right_key in keys:  # the hash is written out: two calls a round would double the time
                mixed = (right + left_key) & _64_BITS
                mixed = ((mixed ^ (mixed >> 30)) * _ODD) & _64_BITS
                left = (left + (mixed ^ (mixed >> 27))) % left_base
                mixed = (left + right_key) & _64_BITS
                mixed = ((mixed ^ (mixed >> 30)) * _ODD) & _64_BITS
                right = (right + (mixed ^ (mixed >> 27))) % right_base
            index = left * right_base + right
            if index < self._length:
                return index
