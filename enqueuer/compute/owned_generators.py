"""Owned generators: the random generators that a Sequence holds, found once and seeded for each item.

Seeding the global generators is not enough for an augmenter with a generator of its own: its draws would depend on the
items that this very worker computed before. So the instance is walked once after it was loaded (`object_walk`), and
each generator is seeded anew for each item and each hook, from (seed, epoch, index, its name). The walk ends after
`NODES_LIMIT` objects: 24 ms.

A generator's name is the trail by which it was found first. Its number among all would not do: an item may make or
remember generators that another worker's instance lacks, and all behind them would draw otherwise.

An object with a seeding method of its own (``set_random_seed``, ``set_random_state``) is seeded by that, and not looked
into. Measured: 6 µs an item for a `random.Random`, 10 to 20 µs for a NumPy generator.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
import random
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from enqueuer.compute.framework_generators import is_frameworks, read_state, seed_generator
from enqueuer.compute.object_walk import Trail, path_of, walk

NODES_LIMIT = 10_000
_SEEDING_METHODS = ("set_random_seed", "set_random_state")

_pack = struct.Struct("<QQq").pack
Reseed = partial[Any]


class OwnedGenerators:
    """The generators of one instance, found when this is made. Those in ``before`` keep their names."""

    def __init__(self, instance: object, before: OwnedGenerators | None = None) -> None:
        self._reseeds: list[Reseed] = []
        # The digests of their names.
        self._names: list[bytes] = []
        known = {} if before is None else dict(zip(map(_identity, before._reseeds), before._names, strict=True))
        found: dict[int, tuple[Reseed, Trail]] = {}
        for reseed, trail in _find(instance):
            found.setdefault(_identity(reseed), (reseed, trail))
        taken = {known[identity] for identity in found if identity in known}
        for identity, (reseed, trail) in found.items():
            name = known.get(identity) or _free_name(path_of(trail), taken)
            taken.add(name)
            self._reseeds.append(reseed)
            self._names.append(name)

    def __len__(self) -> int:
        return len(self._reseeds)

    @property
    def has_opaque(self) -> bool:
        """Whether `states` does not show all draws: from an object with a seeding method or an algorithm of its own, or
        from a seed sequence, which code reads to make generators.
        """
        return any(_state_of(reseed) is None for reseed in self._reseeds)

    def has_same_objects(self, other: OwnedGenerators) -> bool:
        """Whether both are the same generators."""
        one, two = ([reseed.args[0] for reseed in owned._reseeds] for owned in (self, other))
        return len(one) == len(two) and all(map(operator.is_, one, two))

    def states(self) -> list[object]:
        """The state of each generator, to see whether it was drawn from."""
        return [_state_of(reseed) for reseed in self._reseeds]

    def seed(self, seed: int, epoch: int, index: int) -> None:
        """Seed each generator for this item, or for a hook (`seeding.END`, …)."""
        item = _pack(seed, epoch, index)
        for name, reseed in zip(self._names, self._reseeds, strict=True):
            reseed(hashlib.blake2b(item + name, digest_size=32, person=b"owned").digest())


def _find(instance: object) -> Iterator[tuple[Reseed, Trail]]:
    for node, trail in walk(instance, NODES_LIMIT, _is_seedable):
        reseed = _reseed_of(node)
        if reseed is not None:
            yield reseed, trail


def _identity(reseed: Reseed) -> int:
    return id(reseed.args[0])


def _free_name(path: str, taken: set[bytes]) -> bytes:
    """The digest of this path; of a numbered one if another generator has it, such as a member of one set."""
    for number in itertools.count():
        name = hashlib.blake2b(f"{number}:{path}".encode(errors="surrogatepass"), digest_size=16).digest()
        if name not in taken:
            break
    return name


def _is_seedable(node: object) -> bool:
    return _reseed_of(node) is not None


def _reseed_of(node: Any) -> Reseed | None:
    """The function to seed this object; None if it is no generator."""
    # The class alone: `isinstance` would ask a proxy for its ``__class__``.
    cls = type(node)
    if issubclass(cls, random.Random):
        return partial(_seed_random, node)
    if issubclass(cls, np.random.Generator):
        return partial(_seed_bits, node.bit_generator)
    if issubclass(cls, np.random.RandomState):
        return partial(_seed_legacy, node)
    if issubclass(cls, np.random.BitGenerator):
        return partial(_seed_bits, node)
    if cls is np.random.SeedSequence:
        return partial(_seed_sequence, node)
    if is_frameworks(cls):
        return partial(seed_generator, node)
    if not issubclass(cls, type):
        for name in _SEEDING_METHODS:
            if callable(getattr(cls, name, None)):
                return partial(_seed_by_method, node, name)
    return None


def _seed_random(generator: random.Random, key: bytes) -> None:
    generator.seed(int.from_bytes(key[:16], "little"))


def _seed_bits(bits: Any, key: bytes) -> None:
    # A new state in the same object: a Generator and a RandomState may share it.
    bits.state = _new_state(bits, key)


def _seed_legacy(generator: np.random.RandomState, key: bytes) -> None:
    # It draws normal numbers in pairs, and keeps the second one beside the bits.
    generator.set_state({**_new_state(generator._bit_generator, key), "has_gauss": 0, "gauss": 0.0})


def _new_state(bits: Any, key: bytes) -> Any:
    sequence = _sequence_of(bits)
    if sequence is None:
        return type(bits)(int.from_bytes(key[:16], "little")).state
    # Generators made by `spawn` follow from this one.
    _seed_sequence(sequence, key)
    return type(bits)(sequence).state


def _sequence_of(bits: Any) -> Any:
    """The SeedSequence of a bit generator; None if it was seeded in another way."""
    sequence = bits.seed_seq
    return sequence if type(sequence) is np.random.SeedSequence else None


def _seed_sequence(sequence: Any, key: bytes) -> None:
    sequence.__init__(int.from_bytes(key[:16], "little"))


def _state_of(reseed: partial[Any]) -> object:
    """The generator's state; None if that does not show its draws."""
    node: Any = reseed.args[0]
    if reseed.func is _seed_random:
        return node.getstate() if type(node) is random.Random else None
    if reseed.func is _seed_legacy:
        return node.get_state(legacy=False), _spawned_count(node._bit_generator)
    if reseed.func is _seed_bits:
        return node.state, _spawned_count(node)
    return read_state(node) if reseed.func is seed_generator else None


def _spawned_count(bits: Any) -> int:
    return getattr(_sequence_of(bits), "n_children_spawned", 0)


def _seed_by_method(node: Any, name: str, key: bytes) -> None:
    getattr(node, name)(int.from_bytes(key[:4], "little"))
