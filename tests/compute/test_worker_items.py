"""An item depends on seed, epoch and index, whatever its worker computed before and whatever its instance keeps."""

from __future__ import annotations

import random

import numpy as np
import pytest

from enqueuer import item_rng
from enqueuer.compute.entropy import install_hooks, remove_hooks
from enqueuer.compute.worker_items import Instance, WorkerItems

kept_in_the_module = None


@pytest.fixture(autouse=True)
def hooks():
    states = random.getstate(), np.random.get_state()
    install_hooks()
    yield
    remove_hooks()
    random.setstate(states[0])
    np.random.set_state(states[1])


def items(sequence, *, epoch=0, since=0, is_fresh=True, repeats=None):
    on_repeat = (lambda: None) if repeats is None else lambda: repeats.append(1)
    return WorkerItems(Instance(sequence, since, is_fresh), seed=7, epoch=epoch, on_repeat=on_repeat)


class Congruential(random.Random):
    """A generator with an algorithm of its own, whose `getstate` knows nothing of it."""

    def seed(self, a=None, version=2):
        self.state = int(a or 1) % 2**32

    def random(self):
        self.state = (self.state * 1_664_525 + 1_013_904_223) % 2**32
        return self.state / 2**32


class Calls:
    """Counts its calls; ``draw`` is what each of them draws."""

    def __init__(self, draw):
        self.draw = draw
        self.calls = []
        self.own = np.random.RandomState()
        self.held = None
        self.late = None

    def __getitem__(self, index):
        self.calls.append(index)
        return self.draw(self)


def draw_and_put_back(module, get_state, set_state):
    state = getattr(module, get_state)()
    drawn = float(module.random())
    getattr(module, set_state)(state)
    return drawn


DRAWS = {
    "random": lambda _: random.random(),
    "np.random": lambda _: np.random.rand(),
    "item_rng": lambda _: item_rng().random(),
    "a generator on the spot": lambda _: random.Random().random(),
    "an owned generator": lambda self: self.own.rand(),
    "random, and puts its state back": lambda _: draw_and_put_back(random, "getstate", "setstate"),
    "np.random, and puts its state back": lambda _: draw_and_put_back(np.random, "get_state", "set_state"),
    "a generator made from NumPy's state": lambda _: np.random.RandomState(np.random.get_state()[1][:9]).rand(),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_an_item_is_the_same_first_or_later_on_any_instance(draw):
    first = items(Calls(draw))
    expected = {index: first.compute(index) for index in (3, 4, 5)}
    assert len(set(expected.values())) == 3
    second = items(Calls(draw))
    assert {index: second.compute(index) for index in (5, 3, 4)} == expected
    other_epoch = items(Calls(draw), epoch=1)
    assert other_epoch.compute(3) != expected[3]


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_first_item_is_computed_twice_if_it_draws(draw):
    sequence, repeats = Calls(draw), []
    made = items(sequence, repeats=repeats)
    made.compute(3)
    made.compute(4)
    assert sequence.calls == [3, 3, 4]
    assert repeats == [1]


HELD = {
    "a generator with an algorithm of its own": (Congruential, lambda self: self.held.random()),
    "a seed sequence that is read": (np.random.SeedSequence, lambda self: int(self.held.generate_state(1)[0])),
}


@pytest.mark.parametrize(("make", "draw"), HELD.values(), ids=HELD)
def test_an_item_is_the_same_first_or_later_where_no_state_shows_its_draws(make, draw):
    made = []
    for _ in range(2):
        sequence = Calls(draw)
        sequence.held = make()
        made.append(items(sequence))
    expected = [made[0].compute(index) for index in (3, 4)]
    assert [made[1].compute(index) for index in (4, 3)] == expected[::-1]


def test_an_item_that_draws_nothing_is_computed_once():
    sequence, repeats = Calls(lambda _: 5), []
    made = items(sequence, repeats=repeats)
    assert [made.compute(3), made.compute(4)] == [5, 5]
    assert sequence.calls == [3, 4]
    assert repeats == []


def keep_in_the_instance(self):
    self.late = np.random.permutation(50) if self.late is None else self.late
    return tuple(self.late)


def keep_in_the_module(_):
    global kept_in_the_module
    if kept_in_the_module is None:
        kept_in_the_module = np.random.permutation(50)
    return tuple(kept_in_the_module)


def keep_a_generator(self):
    if self.late is None:
        self.late = np.random.default_rng()
    return self.late.random()


@pytest.mark.parametrize("keep", [keep_in_the_instance, keep_in_the_module])
def test_what_the_first_item_draws_and_keeps_is_the_same_whichever_item_is_first(keep):
    global kept_in_the_module
    seen = []
    for index in (0, 3, 9):
        kept_in_the_module = None
        seen.append(items(Calls(keep), epoch=index, since=2).compute(index))
    assert seen[0] == seen[1] == seen[2]
    kept_in_the_module = None
    assert items(Calls(keep), since=3).compute(0) != seen[0], "another state of the Sequence, another draw"


def test_a_generator_that_the_first_item_keeps_follows_the_item():
    one, other = items(Calls(keep_a_generator)), items(Calls(keep_a_generator))
    expected = [one.compute(index) for index in (0, 1, 2)]
    assert [other.compute(index) for index in (2, 1, 0)] == expected[::-1]


def test_a_first_item_that_raises_is_tried_under_its_own_seeds_only_if_it_drew():
    def draw_and_raise(_):
        random.random()
        raise KeyError("no such picture")

    for draw, calls in ((draw_and_raise, [3, 3]), (lambda _: {}["x"], [3])):
        sequence = Calls(draw)
        with pytest.raises(KeyError):
            items(sequence).compute(3)
        assert sequence.calls == calls


def test_an_instance_is_fresh_until_its_first_item_in_whichever_epoch():
    instance = Instance(Calls(keep_a_generator))
    WorkerItems(instance, seed=7, epoch=0)
    later = WorkerItems(instance, seed=7, epoch=1)
    assert instance.is_fresh
    draws = [later.compute(0), later.compute(1)]
    assert not instance.is_fresh
    following = WorkerItems(instance, seed=7, epoch=1)
    assert [following.compute(1), following.compute(0)] == draws[::-1], "the late generator is known from now on"


def test_an_instance_that_is_not_fresh_computes_each_item_once():
    sequence = Calls(DRAWS["random"])
    items(sequence, is_fresh=False).compute(3)
    assert sequence.calls == [3]


def test_a_late_instance_settles_by_any_item_so_that_a_deadly_one_is_not_met_again_and_again():
    asked = set()

    class Recorded:
        def __len__(self):
            return 8

        def __getitem__(self, index):
            asked.add(index)
            return random.random()

    for _ in range(40):
        Instance(Recorded()).settle(seed=1)
    assert len(asked) > 1
