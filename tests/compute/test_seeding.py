import random
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from enqueuer.compute.seeding import BUILD, END, item_generator, seed_globals, seeded_globals


@pytest.fixture(autouse=True)
def callers_generators():
    """Restore the global generators after the test: other tests draw from them too."""
    with seeded_globals(0, 0):
        yield


def draw():
    return random.random(), float(np.random.random()), int(np.random.randint(1 << 30)), random.getrandbits(64)


def test_one_item_draws_the_same_numbers_every_time():
    seed_globals(7, 3, 11)
    first = draw()
    random.seed(1)
    np.random.seed(1)
    seed_globals(7, 3, 11)
    assert draw() == first


def test_the_numbers_are_the_same_in_every_version_and_on_every_platform():
    """Golden values: a change here changes every user's reproducible run."""
    seed_globals(7, 3, 11)
    assert draw() == (0.8383548166194337, 0.27731123669374846, 776233573, 14744128845656895916)
    assert item_generator(7, 3, 11).bit_generator.random_raw() == 3646059034427255981


def test_seed_epoch_and_index_each_make_a_difference():
    seen = set()
    for seed, epoch, index in [
        (1, 2, 3),
        (2, 1, 3),
        (1, 3, 2),
        (3, 2, 1),
        (1, 2, END),
        (1, 2, BUILD),
        (2**64 - 1, 0, 0),
    ]:
        seed_globals(seed, epoch, index)
        seen.add((*draw(), float(item_generator(seed, epoch, index).random())))
    assert len({value for values in seen for value in values}) == 5 * 7


def test_numpy_and_the_items_own_generator_do_not_run_in_step():
    seed_globals(1, 1, 1)
    assert np.random.random(8).tolist() != item_generator(1, 1, 1).random(8).tolist()


def test_torch_is_seeded_when_it_is_imported_and_only_its_cpu_generator(monkeypatch):
    seeds = []
    generator = SimpleNamespace(manual_seed=seeds.append)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(default_generator=generator))
    seed_globals(1, 2, 3)
    seed_globals(1, 2, 3)
    seed_globals(1, 2, 4)
    assert seeds[0] == seeds[1] != seeds[2]
    assert all(0 <= seed < 2**63 for seed in seeds), "a tensor holds torch.initial_seed()"


def test_a_half_imported_torch_is_left_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    seed_globals(1, 2, 3)
    with seeded_globals(1, 2):
        pass


def test_torch_is_not_imported_to_be_seeded():
    code = "import sys, enqueuer.compute.seeding as s; s.seed_globals(1, 2, 3); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_seeded_globals_give_the_callers_state_back():
    random.seed(5)
    np.random.seed(5)
    random.gauss(0, 1)
    np.random.normal()
    expected = [random.gauss(0, 1), random.random(), np.random.normal(), np.random.random()]
    random.seed(5)
    np.random.seed(5)
    random.gauss(0, 1)
    np.random.normal()
    with seeded_globals(1, 2):
        inside = draw()
        random.seed()
    assert [random.gauss(0, 1), random.random(), np.random.normal(), np.random.random()] == expected
    with seeded_globals(1, 2):
        assert draw() == inside


def test_seeded_globals_give_the_state_back_after_an_error():
    before = random.getstate()
    with pytest.raises(KeyError), seeded_globals(1, 2):
        raise KeyError
    assert random.getstate() == before


def test_seeded_globals_give_torchs_state_back(monkeypatch):
    generator = SimpleNamespace(state="callers")
    generator.manual_seed = lambda seed: setattr(generator, "state", seed)
    generator.get_state = lambda: generator.state
    generator.set_state = lambda state: setattr(generator, "state", state)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(default_generator=generator))
    with seeded_globals(1, 2):
        assert generator.state != "callers"
    assert generator.state == "callers"


def test_another_global_bit_generator_of_numpy_is_seeded_too():
    original = np.random.get_bit_generator()
    bits = np.random.PCG64(1)
    np.random.set_bit_generator(bits)
    try:
        seed_globals(1, 2, 3)
        first = np.random.random(4).tolist()
        with seeded_globals(1, 2):
            np.random.random(4)
        seed_globals(1, 2, 3)
        assert np.random.random(4).tolist() == first
        assert np.random.get_bit_generator() is bits
    finally:
        np.random.set_bit_generator(original)


def test_a_bit_generator_put_in_by_the_code_inside_is_taken_out_again():
    original = np.random.get_bit_generator()
    expected = np.random.RandomState()
    expected.set_state(np.random.get_state())
    with seeded_globals(1, 2):
        np.random.set_bit_generator(np.random.PCG64(1))
    assert np.random.get_bit_generator() is original
    assert np.random.random() == expected.random()
