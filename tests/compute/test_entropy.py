"""Generators made without a seed draw it from a seeded stream: in this thread, and while user code runs."""

from __future__ import annotations

import random
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from enqueuer.compute.entropy import (
    Entropy,
    drawing_from,
    install_hooks,
    remove_hooks,
    set_entropy,
    share_between_threads,
)

FRESH = {
    "random.Random": lambda: random.Random().random(),
    "random.seed": lambda: (random.seed(), random.random())[1],
    "Random.seed": lambda: (generator := random.Random(3), generator.seed(), generator.random())[2],
    "default_rng": lambda: np.random.default_rng().random(),
    "RandomState": lambda: np.random.RandomState().rand(),
    "PCG64": lambda: np.random.Generator(np.random.PCG64()).random(),
    # NumPy leaves the position in the old state, which an item's own seeds have set before.
    "np.random.seed": lambda: (np.random.seed(1), np.random.seed(), np.random.rand())[2],
    "SeedSequence": lambda: np.random.SeedSequence().entropy,
}


@pytest.fixture(autouse=True)
def kept_globals():
    states = random.getstate(), np.random.get_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])


@pytest.mark.parametrize("fresh", FRESH.values(), ids=FRESH)
def test_a_generator_without_a_seed_is_the_same_under_the_same_key(fresh):
    with drawing_from(b"key") as entropy:
        first, second = fresh(), fresh()
    assert first != second
    assert entropy.count > 0
    with drawing_from(b"key"):
        assert [fresh(), fresh()] == [first, second]
    with drawing_from(b"other"):
        assert fresh() != first
    assert fresh() not in (first, second), "afterwards entropy is the operating system's again"


@pytest.mark.parametrize("fresh", FRESH.values(), ids=FRESH)
def test_other_threads_are_left_alone(fresh):
    seen = []
    with drawing_from(b"key") as entropy:
        for _ in range(2):
            thread = threading.Thread(target=lambda: seen.append(fresh()))
            thread.start()
            thread.join()
        assert entropy.count == 0
    assert seen[0] != seen[1]


@pytest.fixture
def shared():
    share_between_threads()
    yield
    share_between_threads(False)


@pytest.mark.parametrize("fresh", FRESH.values(), ids=FRESH)
def test_threads_that_an_item_of_a_worker_process_starts_draw_from_its_stream(fresh, shared):
    seen = []
    for _ in range(2):
        with drawing_from(b"key") as entropy:
            thread = threading.Thread(target=lambda: seen.append(fresh()))
            thread.start()
            thread.join()
        assert entropy.count > 0
    assert seen[0] == seen[1]
    assert fresh() != seen[0]


def test_threads_that_draw_at_once_draw_apart(shared):
    with drawing_from(b"key"), ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda _: random.Random().random(), range(500)))
    assert len(set(drawn)) == 500


def test_temporary_names_differ_under_the_same_key(monkeypatch):
    names = []
    for _ in range(2):
        monkeypatch.setattr(tempfile, "_name_sequence", None)
        with drawing_from(b"key"):
            names.append(tempfile.mktemp(dir="."))
    assert names[0] != names[1]


def test_a_seed_is_a_seed_and_secrets_stay_secret():
    with drawing_from(b"key") as entropy:
        assert random.Random(5).random() == 0.6229016948897019
        assert np.random.default_rng(5).random() == np.random.default_rng(5).random()
        assert random.SystemRandom().random() != random.SystemRandom().random()
    assert entropy.count == 0


def test_keys_nest():
    with drawing_from(b"outer"):
        first = random.Random().random()
        with drawing_from(b"inner"):
            inner = random.Random().random()
        second = random.Random().random()
    with drawing_from(b"outer"):
        assert [random.Random().random(), random.Random().random()] == [first, second]
    assert inner not in (first, second)


def test_without_any_user_the_originals_are_back():
    install_hooks()
    hooked = random.Random.seed
    remove_hooks()
    with drawing_from(b"key"):
        assert random.Random.seed is hooked
    before = set_entropy(None)
    assert before is None


def test_bits_are_as_many_as_asked_for():
    entropy = Entropy(b"key")
    for k in (1, 8, 128, 513, 5000):
        assert 0 <= entropy.bits(k) < 1 << k
    assert max(entropy.bits(8) for _ in range(200)) > 128
