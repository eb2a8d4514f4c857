"""Generators that a Sequence holds are found wherever it holds them, and follow the item."""

from __future__ import annotations

import importlib
import random
import sys
import threading
import time
import types
import weakref
from collections import UserDict, deque
from contextvars import ContextVar
from functools import lru_cache, partial

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


class Frozen:
    """Its hash follows from its content."""

    def __init__(self):
        self.generator = random.Random()

    def __hash__(self):
        return 1


@lru_cache(maxsize=4)
def memoised():
    return random.Random()


class Memoises:
    def __getitem__(self, index):
        return memoised().random()


in_context = ContextVar("in_context")
by_default = ContextVar("by_default", default=random.Random())  # noqa: B039


class ReadsItsContext:
    def __init__(self):
        in_context.set(random.Random())

    def __getitem__(self, index):
        return in_context.get().random()


class ReadsADefault:
    def __getitem__(self, index):
        return by_default.get().random()


def thread_local():
    found = threading.local()
    found.generator = random.Random()
    return found


def draws():
    generator = random.Random()
    while True:
        yield generator.random()


def started(iterator):
    next(iterator)
    return iterator


def remembered(instance):
    instance[0]
    return instance


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
    "a set": lambda: holder(a={random.Random()}),
    "an object in a frozenset": lambda: holder(a=frozenset([Frozen()])),
    "a proxy of a dict": lambda: holder(a=types.MappingProxyType({"k": random.Random()})),
    "a UserDict": lambda: holder(a=UserDict(k=random.Random())),
    "an array of objects": lambda: holder(a=np.array([random.Random(), None], dtype=object)),
    "a method of a generator": lambda: holder(a=random.Random().random),
    "a map": lambda: holder(a=map(random.Random().uniform, [0], [1])),
    "an iterator of calls": lambda: holder(a=iter(random.Random().random, 2.0)),
    "a generator function that has begun": lambda: holder(a=started(draws())),
    "a thread-local": lambda: holder(a=thread_local()),
    "a context variable": lambda: ReadsItsContext(),
    "the default of a context variable": ReadsADefault,
    "the keys of a dict of weights": lambda: holder(a={Augmenter(): 0.5}),
    "a memoised function that the class calls": lambda: remembered(Memoises()),
    "a SeedSequence": lambda: holder(a=np.random.SeedSequence()),
    "what comes after large containers": lambda: holder(
        rows=[[{"a": [number]} for number in range(2_000)] for _ in range(20)], a=holder(b=[Augmenter()])
    ),
    "the last item of a large container": lambda: holder(
        rows=[types.SimpleNamespace() for _ in range(3_000)] + [Augmenter()]
    ),
    "the last item of a container beside a larger one": lambda: holder(
        rows=[[number] for number in range(50_000)], stages=[[number] for number in range(200)] + [Augmenter()]
    ),
    "what is deeper than many small containers": lambda: holder(
        rows=[[[[number] for number in range(90)] for _ in range(90)] for _ in range(3)],
        a=holder(b=holder(c=holder(d=holder(e=holder(f=Augmenter()))))),
    ),
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


HELPERS = """
import random
import numpy as np
rng = np.random.default_rng()
class Flips:
    def __init__(self):
        self.coin = random.Random()
    def __call__(self):
        return self.coin.random()
flips = Flips()
def noise():
    return rng.random()
"""

USES = {
    "a function": "from {0} import noise\ndraw = lambda: noise()",
    "a function of a module": "import {0}\ndraw = lambda: {0}.noise()",
    "a generator of a module": "import {0} as helpers\ndraw = lambda: helpers.rng.random()",
    "an object": "from {0} import flips\ndraw = lambda: flips()",
    "an object of a module": "import {0}\ndraw = lambda: {0}.flips()",
    "an import in the call": "def draw():\n    from {0} import flips\n    return flips()",
    "a module of a package": "import {1}.{0}\ndraw = lambda: {1}.{0}.noise()",
    "a package's module imported in the call": "def draw():\n    from {1} import {0}\n    return {0}.flips()",
    "a relative import in the call": "def draw():\n    from .{0} import noise\n    return noise()",
    "a module imported relatively in the call": "def draw():\n    from . import {0}\n    return {0}.rng.random()",
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_generator_of_another_module_of_the_users_is_found_beside_many_rows_through(use, tmp_path, monkeypatch):
    helpers, package = "helpers_of_owned_generators", "package_of_owned_generators"
    (tmp_path / package).mkdir()
    (tmp_path / f"{helpers}.py").write_text(HELPERS)
    (tmp_path / package / f"{helpers}.py").write_text(HELPERS)
    (tmp_path / package / "draws.py").write_text(
        f"{use.format(helpers, package)}\nclass Draws:\n    def __getitem__(self, index):\n        return draw()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module(f"{package}.draws")
    try:
        instance = module.Draws()
        # More objects than the walk looks at: they must not hide what functions name.
        instance.rows = [{"row": [number]} for number in range(NODES_LIMIT)]
        instance[0]
        owned = OwnedGenerators(instance)
        owned.seed(7, 1, 3)
        first = [instance[0], instance[0]]
        owned.seed(7, 1, 3)
        assert [instance[0], instance[0]] == first
        owned.seed(7, 1, 4)
        assert instance[0] not in first
    finally:
        for name in [name for name in sys.modules if name.startswith((helpers, package))]:
            del sys.modules[name]


def test_what_a_generator_or_a_seed_sequence_spawns_follows_the_item():
    instance = holder(a=np.random.default_rng(), b=np.random.SeedSequence())
    owned = OwnedGenerators(instance)

    def spawned(index):
        owned.seed(7, 1, index)
        states = repr(owned.states())
        children = [instance.a.bit_generator.seed_seq.spawn(1)[0], instance.b.spawn(1)[0]]
        assert repr(owned.states()) != states, "it is seen that something was drawn"
        return [np.random.default_rng(child).random() for child in children]

    first = spawned(3)
    assert first[0] != first[1]
    assert not set(first) & set(spawned(4))
    assert spawned(3) == first


def draw_after(instance, change=lambda instance: None):
    """What a generator draws for one item if the instance was changed after it was loaded."""
    loaded = OwnedGenerators(instance)
    change(instance)
    OwnedGenerators(instance, loaded).seed(7, 1, 3)
    return instance.parts["a"][0].generator.random()


CHANGES = {
    "a new generator before it": lambda instance: setattr(instance.lazy, "coin", random.Random()),
    "a shorter way to it": lambda instance: setattr(instance, "last", instance.parts["a"][0]),
    "other parts of a dict": lambda instance: instance.parts.update(c=[Augmenter()], a=instance.parts.pop("a")),
    "many objects": lambda instance: setattr(instance, "cache", [[[number]] for number in range(500)]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_generator_draws_the_same_whatever_else_an_item_left_in_the_instance(change):
    def make():
        return holder(lazy=holder(), parts={"b": [Augmenter()], "a": [Augmenter()]}, last=None)

    assert draw_after(make(), change) == draw_after(make())


def test_a_generator_that_takes_anothers_place_draws_as_the_first_does():
    draws = []
    for count in range(4):
        instance = holder(a=random.Random())
        owned = OwnedGenerators(instance)
        for _ in range(count):
            instance.a = random.Random()
            owned = OwnedGenerators(instance, owned)
        owned.seed(7, 1, 3)
        draws.append(instance.a.random())
    assert len(set(draws)) == 1


def test_members_of_a_set_without_order_draw_by_what_they_are():
    def draws(sizes):
        members = {size: holder(size=size, generator=random.Random()) for size in sizes}
        OwnedGenerators(holder(a=set(members.values()))).seed(7, 1, 3)
        return [members[size].generator.random() for size in range(9)]

    # Their order in a set follows from their addresses.
    assert draws(range(9)) == draws(reversed(range(9)))
    assert len(set(draws(range(9)))) == 9


def test_keys_of_a_dict_draw_by_what_they_are():
    def draws(kinds):
        weights = {holder(kind=kind, generator=random.Random()): 0.5 for kind in kinds}
        OwnedGenerators(holder(a=weights)).seed(7, 1, 3)
        return sorted((part.kind, part.generator.random()) for part in weights)

    assert draws("abc") == draws("cab")


def test_each_generator_gets_a_seed_of_its_own():
    instance = holder(a=random.Random(), b=random.Random(), c=np.random.default_rng(), d=np.random.default_rng())
    OwnedGenerators(instance).seed(1, 2, 3)
    draws = [instance.a.random(), instance.b.random(), instance.c.random(), instance.d.random()]
    assert len(set(draws)) == 4


def test_a_bit_generator_that_two_generators_share_is_seeded_for_both():
    bits = np.random.PCG64()
    instance = holder(a=np.random.Generator(bits), b=np.random.RandomState(bits), c=bits)
    owned = OwnedGenerators(instance)

    def draws(index):
        owned.seed(7, 1, index)
        return instance.a.random(), instance.b.normal(), instance.c.random_raw()

    assert draws(3) == draws(3) != draws(4)


@pytest.mark.parametrize("bits", [np.random.MT19937, np.random.SFC64])
def test_a_legacy_generator_forgets_the_second_of_two_normal_numbers(bits):
    instance = holder(a=np.random.RandomState(bits()))
    owned = OwnedGenerators(instance)
    owned.seed(7, 1, 3)
    first = instance.a.normal()
    owned.seed(7, 1, 3)
    assert instance.a.normal() == first


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


class NoClass:
    """Answers no question, like the ``f`` of an ``.npz`` file, and a proxy of something that is gone."""

    def __init__(self):
        object.__setattr__(self, "generator", random.Random())

    def __getattribute__(self, name):
        raise LookupError(name)


class Pretender:
    """Says that it is a dict, as a mock does."""

    __class__ = dict

    def __init__(self):
        self.generator = random.Random()


class LazyList(list):
    """Loads its items when it is asked for them, which must not be done here."""

    def __init__(self, items):
        super().__init__(items)
        self.generator = random.Random()

    def __len__(self):
        raise AssertionError("asked")

    __iter__ = __len__


class Gone:
    pass


def calls_with_arrays():
    rows, generator = np.arange(3), random.Random()
    return lambda: rows[generator.randrange(3)]


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (NoClass, 2),  # with the module's own
        (Pretender, 2),
        (lambda: LazyList([random.Random()]), 3),
        (lambda: weakref.proxy(Gone()), 0),
        (calls_with_arrays, 2),
    ],
    ids=["no class", "another class", "a lazy list", "a proxy of nothing", "an array in a closure"],
)
def test_objects_are_walked_by_what_they_are_and_are_not_asked(make, count):
    assert len(OwnedGenerators([make()])) == count


def test_the_members_of_an_archive_are_no_trouble(tmp_path):
    np.savez(tmp_path / "rows.npz", rows=np.arange(3))
    with np.load(tmp_path / "rows.npz") as archive:
        assert len(OwnedGenerators([archive])) == 0
