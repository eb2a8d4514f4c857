"""Random seeds that depend on (seed, epoch, index) alone, not on the worker or the time.

    BLAKE2b(seed, epoch, index) → 56 bytes: [0:16] random, [16:20] NumPy, [20:32] fresh entropy, [32:40] torch,
                                            [40:56] item_rng()

The three numbers are hashed as fixed-width little-endian integers. Unlike `hash()`, the result is the same on every
platform, Python and NumPy version; unlike sums of the three, it differs between neighbours. Each generator gets its
own bytes of the hash, so that no two of them run in step.

NumPy's global generator gets 32 bits as a number, which takes 2 µs; an array of more bits takes 13 µs, longer than some
batches take to compute. So of 100 000 batches about one pair shares its draws of ``np.random``; `random` and
`item_rng()` get 128 bits. Measured: 9 µs an item for `random` (6 µs) and NumPy together.
"""

from __future__ import annotations

import hashlib
import random
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from enqueuer.compute.entropy import drawing_from

# Stand for the index: END in `on_epoch_end`, BUILD in the Sequence's constructor, FIRST in the first item of a fresh
# instance.
END = -1
BUILD = -2
FIRST = -3

# NumPy's stubs leave out get_bit_generator and set_bit_generator, which 1.26 and 2 both have.
_numpy_random: Any = np.random
# The instance behind the functions of `random`, and the method that seeds its Mersenne Twister.
_random_instance: Any = random._inst
_seed_mersenne = super(random.Random, _random_instance).seed
_pack = struct.Struct("<QQq").pack
_RANDOM, _NUMPY, _ENTROPY, _TORCH, _ITEM = slice(16), slice(16, 20), slice(20, 32), slice(32, 40), slice(40, 56)
# Copied for each item, which takes half the time of a new one.
_hash = hashlib.blake2b(digest_size=56, person=b"enqueuer")
_TORCH_MASK = 2**63 - 1


def seed_globals(seed: int, epoch: int, index: int) -> bytes:
    """Seed `random`, NumPy's global generator and, if it is imported, torch's default CPU generator.

    ``seed`` and ``epoch`` are in [0, 2**64), ``index`` in [0, 2**63) or one of `END`, `BUILD` and `FIRST`. Returns the
    key of fresh entropy (`entropy.Entropy`).
    """
    digest = _digest(seed, epoch, index)
    # The work of random.seed for an integer, without two calls in between.
    _seed_mersenne(int.from_bytes(digest[_RANDOM], "little"))
    _random_instance.gauss_next = None
    # This also seeds another kind of generator that the user has set (set_bit_generator).
    np.random.seed(int.from_bytes(digest[_NUMPY], "little"))
    generator = _torch_generator()
    if generator is not None:
        # Not torch.manual_seed, which also seeds every accelerator: a worker must not wake one. With 63
        # bits a tensor holds torch.initial_seed(). Of all of them the generator uses 32.
        generator.manual_seed(int.from_bytes(digest[_TORCH], "little") & _TORCH_MASK)
    return digest[_ENTROPY]


def item_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """An item's own generator. It names PCG64, because `default_rng` may change its algorithm."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(_digest(seed, epoch, index)[_ITEM], "little")))


@contextmanager
def seeded_globals(seed: int, epoch: int, index: int = END) -> Iterator[None]:
    """Run user code under seeded global generators and seeded entropy, and restore the caller's state afterwards.

    The default index is for ``on_epoch_end``: every instance that replays it must shuffle alike.
    """
    random_state = random.getstate()
    numpy_bits, numpy_state = _numpy_random.get_bit_generator(), np.random.get_state(legacy=False)
    torch_generator = _torch_generator()
    torch_state = None if torch_generator is None else torch_generator.get_state()
    key = seed_globals(seed, epoch, index)
    try:
        with drawing_from(key):
            yield
    finally:
        random.setstate(random_state)
        if _numpy_random.get_bit_generator() is not numpy_bits:
            _numpy_random.set_bit_generator(numpy_bits)
        np.random.set_state(numpy_state)
        if torch_generator is not None:
            torch_generator.set_state(torch_state)


def _digest(seed: int, epoch: int, index: int) -> bytes:
    item_hash = _hash.copy()
    item_hash.update(_pack(seed, epoch, index))
    return item_hash.digest()


def _torch_generator() -> Any:
    """torch's default CPU generator, or None if torch is not (or not completely) imported."""
    return getattr(sys.modules.get("torch"), "default_generator", None)
