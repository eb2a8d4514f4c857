"""Seeded entropy: a generator made without a seed draws its seed from a stream that is the same on every worker.

    seeds of an item, a build or a hook ──► Entropy ──► random.Random() · np.random.default_rng() · RandomState()

Instances that are built apart must agree, also where their code says ``random.Random().shuffle(order)``. The operating
system's entropy would differ on each worker; so `random.Random.seed(None)` and NumPy's source of fresh entropy take
theirs from here while user code of ours runs in this thread. In every other thread, and between two calls, they are
the original ones; in a worker process, where only user code draws, threads that an item starts draw from its stream.

`os.urandom`, `secrets`, `random.SystemRandom` and `uuid` stay what they are: programs use them for secrets. So do the
names of `tempfile`: workers of one host that draw alike would write over each other's files. NumPy's source
(``numpy.random.bit_generator.randbits``) is private; where it is missing, only `random` is covered.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_WORD_BYTES = 64


class Entropy:
    """A stream of bits from one key. ``count`` is the number of draws so far."""

    __slots__ = ("_key", "_numbers", "count")

    def __init__(self, key: bytes) -> None:
        self._key = key
        # Threads may draw at once, and no two of them may get the same word.
        self._numbers = itertools.count()
        self.count = 0

    def bits(self, k: int) -> int:
        """The next ``k`` bits, as an integer."""
        words = b"".join(self._word() for _ in range(-(-k // (8 * _WORD_BYTES))))
        return int.from_bytes(words, "little") & ((1 << k) - 1)

    def _word(self) -> bytes:
        number = next(self._numbers)
        self.count = number + 1
        return hashlib.blake2b(
            number.to_bytes(8, "little"), digest_size=_WORD_BYTES, key=self._key, person=b"entropy"
        ).digest()


class _Source(threading.local):
    """The calling thread's entropy; None: the operating system's."""

    entropy: Entropy | None = None


class _SharedSource:
    """The entropy of all threads."""

    entropy: Entropy | None = None


_source: _Source | _SharedSource = _Source()


def share_between_threads(shares: bool = True) -> None:
    """Have all threads of this process draw from one entropy: that of a worker process's item."""
    global _source
    _source = _SharedSource() if shares else _Source()


def set_entropy(entropy: Entropy | None) -> Entropy | None:
    """Set the calling thread's entropy; returns the one before. The hooks must be installed (`install_hooks`)."""
    before = _source.entropy
    _source.entropy = entropy
    return before


@contextmanager
def drawing_from(key: bytes) -> Iterator[Entropy]:
    """Install the hooks, and take this thread's fresh entropy from the key."""
    entropy = Entropy(key)
    install_hooks()
    before = set_entropy(entropy)
    try:
        yield entropy
    finally:
        set_entropy(before)
        remove_hooks()


# ---------------------------------------------------------------- the hooks

_lock = threading.Lock()
_installed_count = 0
_numpy_source: Any = getattr(np.random, "bit_generator", None)
_random_seed = random.Random.seed
_numpy_randbits: Any = getattr(_numpy_source, "randbits", None)
_global_seed = random.seed
_temporary_names: Any = getattr(tempfile, "_Random", None)


def _seed(self: random.Random, a: Any = None, version: int = 2) -> None:
    """Seed the generator; without a seed, from this thread's entropy."""
    entropy = _source.entropy
    if a is None and entropy is not None:
        a = entropy.bits(256)
    _random_seed(self, a, version)


def _randbits(k: int) -> Any:
    entropy = _source.entropy
    return _numpy_randbits(k) if entropy is None else entropy.bits(k)


def install_hooks() -> None:
    """Have fresh generators ask `set_entropy`'s stream. Every call needs one of `remove_hooks`."""
    global _installed_count
    with _lock:
        _installed_count += 1
        if _installed_count > 1:
            return
        random.Random.seed = _seed  # type: ignore[method-assign]
        # `random.seed` is a method that was bound before.
        random.seed = random._inst.seed
        if _numpy_randbits is not None:
            _numpy_source.randbits = _randbits
        if _temporary_names is not None:
            tempfile._Random = random.SystemRandom  # type: ignore[attr-defined]


def remove_hooks() -> None:
    """Undo one `install_hooks`; after the last, everything is the original again."""
    global _installed_count
    with _lock:
        _installed_count -= 1
        if _installed_count:
            return
        random.Random.seed = _random_seed  # type: ignore[method-assign]
        random.seed = _global_seed
        if _numpy_randbits is not None:
            _numpy_source.randbits = _numpy_randbits
        if _temporary_names is not None:
            tempfile._Random = _temporary_names  # type: ignore[attr-defined]
