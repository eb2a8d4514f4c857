"""Generators that a Sequence holds are found wherever it holds them, and follow the item."""

from __future__ import annotations

import random
import time
from collections import deque
from functools import partial

import numpy as np
import pytest

from enqueuer.compute.owned_generators import NODES_LIMIT, OwnedGenerators

of_the_module = np.random.default_rng()


class Augmenter:
    def __init__(self):
        self.generator = np.random.default_rng()

    def draw(self):
        return self.generator.random()


class Slotted:
    __slots__ = ("generator", "unset")

    def __init__(self):
        self.generator = random.Random()


class OfTheClass:
    generator = np.random.RandomState()


class SeedsItself:
    def __init__(self):
        self.inner = random.Random()
        self.seeds = []

    def set_random_seed(self, seed):
        self.seeds.append(seed)


class Asks:
    """Answers every question, which the walk must not ask."""

    def __init__(self):
        self.generator = random.Random()

    def __getattr__(self, name):
        raise AssertionError(f"asked for {name}")

    @property
    def property_of_it(self):
        raise AssertionError("a property was called")


def holder(**attributes):
    class Holder:
        pass

    found = Holder()
    vars(found).update(attributes)
    return found


def closure():
    generator = random.Random()
    return lambda: generator.random()


PLACES = {
    "an attribute": lambda: holder(a=random.Random()),
    "a RandomState": lambda: holder(a=np.random.RandomState()),
    "a Generator": lambda: holder(a=np.random.default_rng()),
    "a BitGenerator": lambda: holder(a=np.random.MT19937()),
    "a list in a dict in a tuple": lambda: holder(a=({"k": [random.Random()]},)),
    "a deque": lambda: holder(a=deque([random.Random()])),
    "another object": lambda: holder(a=holder(b=Augmenter())),
    "slots": lambda: holder(a=Slotted()),
    "a partial": lambda: holder(a=partial(np.random.Generator.random, np.random.default_rng())),
    "a bound method": lambda: holder(a=Augmenter().draw),
    "a closure": lambda: holder(a=closure()),
    "a default": lambda: holder(a=lambda generator=random.Random(): generator.random()),  # noqa: B008
    "a class": lambda: OfTheClass(),
    "an object that answers everything": lambda: Asks(),
}


def count(instance):
    """Without the generator of this very module, which each class here leads to."""
    with_module = OwnedGenerators(instance)
    of_module = sum(reseed.args[0] is of_the_module.bit_generator for reseed in with_module._reseeds)
    return len(with_module) - of_module


@pytest.mark.parametrize("make", PLACES.values(), ids=PLACES)
def test_a_generator_is_found_in(make):
    instance = make()
    assert count(instance) == 1
    owned = OwnedGenerators(instance)
    owned.seed(7, 1, 3)
    states = owned.states()
    owned.seed(7, 1, 4)
    assert repr(owned.states()) != repr(states)
    owned.seed(7, 1, 3)
    assert repr(owned.states()) == repr(states)


def test_a_generator_of_the_sequences_own_module_is_found():
    owned = OwnedGenerators(Augmenter())
    assert len(owned) == 2
    owned.seed(1, 2, 3)
    first = of_the_module.random()
    owned.seed(1, 2, 3)
    assert of_the_module.random() == first


def test_each_generator_gets_a_seed_of_its_own():
    instance = holder(a=random.Random(), b=random.Random(), c=np.random.default_rng(), d=np.random.default_rng())
    OwnedGenerators(instance).seed(1, 2, 3)
    draws = [instance.a.random(), instance.b.random(), instance.c.random(), instance.d.random()]
    assert len(set(draws)) == 4


def test_a_bit_generator_that_two_generators_share_is_seeded_once():
    bits = np.random.PCG64()
    assert count(holder(a=np.random.Generator(bits), b=np.random.RandomState(bits), c=bits)) == 1


def test_an_object_that_seeds_itself_is_seeded_by_its_method_and_not_looked_into():
    instance = SeedsItself()
    owned = OwnedGenerators(holder(a=instance))
    owned.seed(1, 2, 3)
    owned.seed(1, 2, 3)
    owned.seed(1, 2, 4)
    first, second, third = instance.seeds
    assert first == second != third
    assert owned.has_opaque
    assert count(holder(a=instance)) == 1


def test_secrets_and_cycles_and_large_containers_are_no_trouble():
    instance = holder(secret=random.SystemRandom(), rows=list(range(1_000_000)))
    instance.itself = instance
    instance.late = random.Random()
    started = time.process_time()
    assert count(instance) == 1
    assert time.process_time() - started < 1.0


def test_the_walk_ends():
    chain = holder(generator=random.Random())
    for _ in range(2 * NODES_LIMIT):
        chain = [chain]
    assert count(holder(a=chain)) == 0


def test_nothing_is_found_in_plain_values():
    for value in (None, 3, "text", np.zeros(3), {"a": [1, 2]}, print, len):
        assert count(value) == 0
