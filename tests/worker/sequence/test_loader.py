import logging
import random
import sys
import weakref

import numpy as np
import pytest

from enqueuer.compute.context import worker_info
from enqueuer.compute.digest import sequence_digest
from enqueuer.compute.spec import SequenceSpec
from enqueuer.errors import AuthenticationError, ConfigurationError, ProtocolError
from enqueuer.memory.segment import SharedSegment
from enqueuer.protocol.live_object import carried_state, live_state, pack_bundle
from enqueuer.protocol.messages import Epoch, Welcome
from enqueuer.stream.hook_runs import EPOCH_ENDS_LIMIT
from enqueuer_worker.sequence.allowance import Allowance
from enqueuer_worker.sequence.loader import SequenceLoader

SOURCE = """
import numpy as np

events = []

def prepare():
    events.append("prepare")

class Shuffled:
    def __init__(self, count=20, fail_at=None):
        events.append("made")
        self.order = np.arange(count)
        self.fail_at = fail_at
        self.hooks = 0
    def __len__(self):
        return len(self.order)
    def __getitem__(self, index):
        return self.order[index]
    def on_epoch_end(self):
        self.hooks += 1
        if self.hooks == self.fail_at:
            raise OSError("no next epoch")
        np.random.shuffle(self.order)
    def close(self):
        events.append("closed")

class Counting(Shuffled):
    def set_epoch(self, epoch):
        self.epoch = epoch
        self.draw = np.random.random()

class Still:
    def __len__(self):
        return 3
    def __getitem__(self, index):
        return index

class Unclosable(Still):
    def close(self):
        raise OSError("cannot close")

def nothing():
    return None
"""
SESSION = b"s" * 16
FIRST_EPOCH = Epoch(0, 0, 7, None)
MODULE = "loaderproj.data"


@pytest.fixture
def events(tmp_path, monkeypatch):
    """The events noted by the user's module."""
    (tmp_path / "loaderproj").mkdir()
    (tmp_path / "loaderproj" / "__init__.py").write_text("")
    (tmp_path / "loaderproj" / "data.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    from loaderproj.data import events

    yield events
    for name in [name for name in sys.modules if name.startswith("loaderproj")]:
        del sys.modules[name]


@pytest.fixture
def loader(events):
    return SequenceLoader(Allowance(packages=("loaderproj",)))


@pytest.fixture
def local(events):
    return SequenceLoader(Allowance(local=True))


@pytest.fixture
def publish(tmp_path):
    """Puts a bundle into a segment; returns the state to name it."""
    made = []

    def pack(sequence, worker_init=None):
        made.append(SharedSegment.create(pack_bundle(sequence, worker_init), directory=tmp_path))
        return live_state(made[-1].path)

    yield pack
    for segment in made:
        segment.close()


def load(
    loader, epoch=0, name="Shuffled", ends=(), session=SESSION, generation=None, seed=7, worker_init=None, **kwargs
):
    state = {"epoch_ends": [list(run) for run in ends]}
    generation = epoch if generation is None else generation
    sequence = [f"{MODULE}:{name}", kwargs]
    return load_state(loader, state, sequence, Epoch(epoch, generation, seed, None), session, worker_init)


def load_state(loader, state, sequence=None, epoch=FIRST_EPOCH, session=SESSION, worker_init=None):
    welcome = Welcome("", 1.0, 30.0, 0, sequence, {"worker_init": worker_init})
    return loader.load(session, epoch._replace(state=state), welcome)


# ---------------------------------------------------------------- specs


def test_a_specs_instance_lives_as_long_as_the_worker(loader, events):
    first = load(loader)
    for epoch in range(1, 5):
        assert load(loader, epoch, ends=[(7, 0, epoch)]) is first
    assert load(loader, 5, ends=[(7, 0, 5)], session=b"t" * 16) is first
    assert events == ["made"]
    assert first.hooks == 5


def test_all_instances_shuffle_alike_however_late_they_join(loader, events):
    early = load(loader)
    for epoch in range(1, 4):
        load(loader, epoch, ends=[(7, 0, epoch)])
    late = load(SequenceLoader(Allowance(local=True)), 3, ends=[(7, 0, 3)])
    assert late is not early
    assert late.order.tolist() == early.order.tolist() != list(range(20))


def test_replaying_leaves_the_global_random_state_alone(loader):
    np.random.seed()
    before = np.random.get_state()[1].tolist()
    load(loader, 2, ends=[(7, 0, 2)])
    assert np.random.get_state()[1].tolist() == before


def test_the_same_epoch_again_does_nothing(loader, events):
    first = load(loader, 1, ends=[(7, 0, 1)])
    assert load(loader, 1, ends=[(7, 0, 1)]) is first
    assert first.hooks == 1


def test_another_session_with_the_same_epoch_number_is_loaded_anew(loader):
    load(loader, 1, ends=[(7, 0, 1)])
    order = load(loader, 1, ends=[(8, 0, 1)], session=b"t" * 16).order.tolist()
    assert order == load(SequenceLoader(Allowance(local=True)), 1, ends=[(8, 0, 1)]).order.tolist()


def test_runs_of_several_sessions_are_replayed_each_with_its_seed(loader):
    load(loader, 3, ends=[(7, 0, 2)])
    whole = load(loader, 4, ends=[(7, 0, 2), (9, 3, 1)])
    assert whole.hooks == 3
    fresh = load(SequenceLoader(Allowance(local=True)), 4, ends=[(7, 0, 2), (9, 3, 1)])
    assert fresh.order.tolist() == whole.order.tolist()


@pytest.mark.parametrize("ends", [[(7, 0, 1)], [], [(8, 0, 3)], [(7, 1, 3)]], ids=["shorter", "none", "seed", "epochs"])
def test_a_history_that_does_not_continue_makes_a_fresh_instance(loader, events, ends):
    first = load(loader, 3, ends=[(7, 0, 3)])
    second = load(loader, 4, ends=ends)
    assert second is not first
    assert second.hooks == sum(count for _, _, count in ends)
    assert events == ["made", "closed", "made"]


def test_set_epoch_is_called_instead_of_a_replay(loader, events):
    sequence = load(loader, 5, "Counting", ends=[(7, 0, 5)])
    assert (sequence.epoch, sequence.hooks) == (5, 0)
    draw = sequence.draw
    assert load(loader, 2, "Counting", ends=[(7, 0, 2)]) is sequence
    assert sequence.epoch == 2
    load(loader, 5, "Counting", ends=[(7, 0, 5)], generation=9)
    assert sequence.draw == draw


def test_a_sequence_without_on_epoch_end_is_never_replayed(loader):
    first = load(loader, 3, "Still", ends=[(7, 0, 3)])
    assert load(loader, 1, "Still") is first


def test_another_spec_replaces_the_first(loader, events):
    load(loader)
    assert len(load(loader, count=5, session=b"t" * 16)) == 5
    assert events == ["made", "closed", "made"]


def test_an_error_in_a_replayed_hook_is_raised_and_the_instance_dropped(loader, events):
    with pytest.raises(OSError, match="no next epoch"):
        load(loader, 3, ends=[(7, 0, 3)], fail_at=2)
    assert events == ["made", "closed"]
    with pytest.raises(OSError):
        load(loader, 3, ends=[(7, 0, 3)], fail_at=2)
    assert load(loader, 1, ends=[(7, 0, 1)], fail_at=2).hooks == 1


def test_length_and_digest_are_those_of_the_instance(loader):
    load(loader, count=5)
    assert loader.length() == 5
    assert loader.digest() == sequence_digest(f"{MODULE}:Shuffled", {"count": 5}) != b""


def test_a_callable_that_gives_no_sequence_is_a_type_error(loader):
    with pytest.raises(TypeError, match="gave no Sequence"):
        load(loader, name="nothing")


def test_a_target_outside_the_allowance_is_refused(loader):
    with pytest.raises(AuthenticationError):
        load_state(loader, {}, ["subprocess:getoutput", {"cmd": "true"}])
    with pytest.raises(ConfigurationError):
        load_state(loader, {}, [f"{MODULE}:np.load", {}])


@pytest.mark.parametrize("sequence", [None, [], ["a:b"], ["a:b", []], [3, {}], ["a:b", {3: 1}]])
def test_an_epoch_without_a_sequence_is_the_peers_error(loader, sequence):
    with pytest.raises(ProtocolError):
        load_state(loader, {"epoch_ends": []}, sequence)


@pytest.mark.parametrize(
    "ends", [3, [3], [[1, 2]], [[7, 0, -1]], [[7, 0, 1.5]], [[7, 0, EPOCH_ENDS_LIMIT], [7, 0, 1]], [[7, 0, 2**60]]]
)
def test_a_malformed_history_is_the_peers_error(loader, ends):
    with pytest.raises(ProtocolError):
        load_state(loader, {"epoch_ends": ends}, [f"{MODULE}:Shuffled", {}])


def test_an_epoch_without_a_state_is_the_first(loader):
    assert load_state(loader, None, [f"{MODULE}:Shuffled", {}]).hooks == 0


# ---------------------------------------------------------------- live objects


class Live:
    """A Sequence made in the trainer, with data of its own."""

    closed = 0

    def __init__(self):
        self.data = np.zeros(10_000)
        self.epoch_of_unpickling = None

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.data[index]

    def __setstate__(self, state):
        self.__dict__.update(state)

    def close(self):
        Live.closed += 1


def test_a_live_object_is_kept_over_epochs_and_made_afresh_for_each_state_generation(local, publish):
    state = publish(Live())
    Live.closed = 0
    first = load_state(local, state)
    first.data[:] = 1
    assert load_state(local, state) is first
    assert load_state(local, state, epoch=Epoch(1, 0, 7, None)) is first, "what it keeps in memory lives on"
    third = load_state(local, state, epoch=Epoch(1, 1, 7, None))
    assert third is not first
    assert third.data.sum() == 0
    assert Live.closed == 0, "a copy that is renewed is not closed"
    assert local.length() == 4
    local.close()
    assert Live.closed == 1
    assert local.digest() == b""


def test_a_remote_worker_opens_no_file_that_the_trainer_names(loader, publish):
    for allowed in (loader, SequenceLoader(Allowance(packages=("loaderproj",), pickle=True))):
        with pytest.raises(AuthenticationError, match="may not name this worker's files"):
            load_state(allowed, publish(Live()))
        with pytest.raises(AuthenticationError):
            load_state(allowed, live_state("/no/such/file"))


class Bomb:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_a_remote_worker_unpickles_nothing_unless_its_owner_said_so(loader):
    with pytest.raises(AuthenticationError, match="--allow-pickle"):
        load_state(loader, carried_state(pack_bundle(Bomb())))
    trusting = SequenceLoader(Allowance(pickle=True))
    with pytest.raises(SystemExit, match="unpickled"):
        load_state(trusting, carried_state(pack_bundle(Bomb())))


def test_a_live_object_from_a_message_is_each_workers_own_and_writable():
    loader = SequenceLoader(Allowance(pickle=True))
    state = carried_state(pack_bundle(Live()))
    first = load_state(loader, state)
    first.data[:] = 1
    assert load_state(loader, state, epoch=Epoch(1, 1, 7, None)).data.sum() == 0


@pytest.mark.parametrize("parts", [None, [], [b"x"], "ab", [b"x", "y"], {"a": 1}])
def test_malformed_parts_are_the_peers_error(parts):
    with pytest.raises(ProtocolError):
        load_state(SequenceLoader(Allowance(pickle=True)), {"parts": parts, "python": "3.11"})


def test_a_live_object_of_another_python_is_refused_with_both_versions():
    state = {**carried_state(pack_bundle(Live())), "python": "2.7"}
    with pytest.raises(ConfigurationError, match=r"Python '2\.7'"):
        load_state(SequenceLoader(Allowance(pickle=True)), state)


def test_a_segment_that_is_gone_is_an_os_error_and_the_next_call_tries_again(local, publish):
    with pytest.raises(OSError):
        load_state(local, live_state("/no/such/file"))
    assert len(load_state(local, publish(Live()))) == 4


def test_a_bundle_may_hold_a_spec_whose_instance_lasts(local, publish, events):
    bundle = publish(SequenceSpec(f"{MODULE}:Shuffled", count=6))
    first = load_state(local, bundle)
    second = load_state(local, {**bundle, "epoch_ends": [[7, 0, 1]]}, epoch=Epoch(1, 1, 7, None))
    assert first is second
    assert second.hooks == 1
    assert local.digest() == sequence_digest(f"{MODULE}:Shuffled", {"count": 6})


def test_a_live_object_replaces_a_spec_and_a_spec_a_live_object(local, publish, events):
    load(local)
    assert len(load_state(local, publish(Live()), epoch=Epoch(1, 1, 7, None))) == 4
    assert local.digest() == b""
    load(local, 2)
    assert events == ["made", "closed", "made"]


# ---------------------------------------------------------------- worker_init


def test_worker_init_runs_once_and_before_the_sequence_is_made(loader, events):
    for epoch in range(3):
        load(loader, epoch, ends=[(7, 0, epoch)], worker_init=f"{MODULE}:prepare")
    assert events == ["prepare", "made"]


def test_a_live_worker_init_runs_once_and_before_the_sequence_is_made(local, publish):
    order = sys.modules.setdefault("loaderproj_order", type(sys)("loaderproj_order"))
    order.events = []

    def prepare():
        import loaderproj_order

        loaderproj_order.events.append("prepare")

    class Noisy:
        def __setstate__(self, state):
            import loaderproj_order

            loaderproj_order.events.append("made")

        def __getstate__(self):
            return {"x": 1}

    state = publish(Noisy(), prepare)
    load_state(local, state)
    load_state(local, state, epoch=Epoch(1, 1, 7, None))
    assert sys.modules.pop("loaderproj_order").events == ["prepare", "made", "made"]


def test_worker_init_must_be_allowed_as_well(loader, events):
    with pytest.raises(AuthenticationError):
        load(loader, worker_init="os:getpid")
    assert events == []


def test_a_worker_init_that_fails_is_tried_again(local, publish):
    failing = publish([1], lambda: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            load_state(local, failing)


# ---------------------------------------------------------------- leaving


def test_closing_calls_the_sequences_own_close_once(loader, events):
    load(loader)
    loader.close()
    loader.close()
    assert events == ["made", "closed"]


def test_an_error_while_closing_is_logged(loader, caplog):
    load(loader, name="Unclosable")
    with caplog.at_level(logging.ERROR):
        loader.close()
    assert "close() of the Sequence failed" in caplog.text
    assert "cannot close" in caplog.text


def test_a_sequence_without_close_is_dropped_without_an_error(loader):
    load(loader, name="Still")
    loader.close()
    assert worker_info() is None


# ---------------------------------------------------------------- instances that are built apart agree


class Deals:
    """Deals in its constructor, at its first item and in its hook, each time with a generator made on the spot."""

    def __init__(self):
        self.built = random.Random().random()
        self.dealt = None

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if self.dealt is None:
            self.dealt = np.random.default_rng().integers(1 << 40)
        return self.built, int(self.dealt)

    def on_epoch_end(self):
        self.dealt = None
        self.built = random.Random().random()


def items_of(loader, state, epoch, index):
    load_state(loader, state, epoch=epoch)
    return loader.make_items(epoch, lambda: None).compute(index)


living = weakref.WeakSet()


class Living(Live):
    """Knows how many of its class there are when it is unpickled."""

    def __setstate__(self, state):
        vars(self).update(state, others=len(living))
        living.add(self)


def test_the_old_copy_of_a_live_object_is_gone_when_the_new_one_is_made(publish):
    loader = SequenceLoader(Allowance(local=True))
    for epoch in range(3):
        message = Epoch(epoch, epoch, 7, publish(Living()))
        sequence = loader.load(SESSION, message, Welcome("", 1.0, 30.0, 0, None, {}))
        loader.make_items(message, lambda: None).compute(0)
        assert sequence.others == 0
        del sequence


@pytest.mark.parametrize("epoch", [0, 5])
def test_workers_that_start_with_different_items_agree_on_what_a_live_object_draws_and_keeps(publish, epoch):
    state = {**publish(Deals()), "since": 3}
    first, second = (SequenceLoader(Allowance(local=True)) for _ in range(2))
    one = items_of(first, state, Epoch(epoch, 0, 7, None), 0)
    assert items_of(second, state, Epoch(epoch + 1, 0, 7, None), 3) == one, "also one that joins an epoch later"


def test_workers_that_build_a_spec_agree_on_what_it_draws(publish):
    def made(index, epoch, ends):
        loader = SequenceLoader(Allowance(local=True))
        welcome = Welcome("e", 1.0, 1.0, 0, [f"{__name__}:Deals", {}], {})
        message = Epoch(epoch, 0, 7, {"epoch_ends": ends})
        loader.load(b"s", message, welcome)
        return loader.make_items(message, lambda: None).compute(index)

    assert made(0, 0, []) == made(3, 0, [])
    after = made(0, 2, [[7, 0, 2]])
    assert made(2, 2, [[7, 0, 2]]) == after != made(0, 0, [])


def test_a_spec_that_has_drawn_is_made_again_for_another_seed_and_kept_for_the_same():
    loader, welcome = SequenceLoader(Allowance(local=True)), Welcome("e", 1.0, 1.0, 0, [f"{__name__}:Deals", {}], {})

    def computed(session, seed):
        epoch = Epoch(0, 0, seed, {})
        sequence = loader.load(session, epoch, welcome)
        return sequence, loader.make_items(epoch, lambda: None).compute(0)

    first, dealt = computed(b"one", 7)
    assert computed(b"two", 7)[0] is first
    second, dealt_anew = computed(b"three", 8)
    assert second is not first
    assert dealt_anew != dealt
    assert computed(b"four", 7)[1] == dealt


class Keeps:
    """Deals at its first item and keeps that over the epochs, and over a hook that only counts."""

    def __init__(self):
        self.epoch = 0
        self.dealt = None

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if self.dealt is None:
            self.dealt = np.random.permutation(40)
        return int(self.dealt[index]), random.random()

    def on_epoch_end(self):
        self.epoch += 1


class KeepsForTwo(Keeps):
    def on_epoch_end(self):
        super().on_epoch_end()
        self.dealt = None if self.epoch % 2 == 0 else self.dealt


class ShufflesWhatItKeeps(Keeps):
    def on_epoch_end(self):
        np.random.shuffle(self.dealt)


class IsToldTheEpoch(Keeps):
    def set_epoch(self, epoch):
        self.dealt = None if epoch % 2 == 0 and epoch != self.epoch else self.dealt
        self.epoch = epoch


class ShufflesByAHelper(Keeps):
    """Its hook draws from a helper's generator; its items make one before it, and remember another one of them."""

    def __init__(self):
        super().__init__()
        self.lazy = Lazy()
        self.helpers = [[Helper()], [Helper()]]
        self.last = None
        self.dealt = np.arange(40)

    def __getitem__(self, index):
        self.last = self.helpers[index % 2][0]
        return int(self.dealt[index]), self.lazy.draw()

    def on_epoch_end(self):
        for helper in self.helpers:
            helper[0].coin.shuffle(self.dealt)


class Helper:
    def __init__(self):
        self.coin = random.Random(3)


class Lazy:
    coin = None

    def draw(self):
        self.coin = self.coin or random.Random()
        return self.coin.random()


KEEPING = [Keeps, KeepsForTwo, ShufflesWhatItKeeps, IsToldTheEpoch, ShufflesByAHelper]


def spec_items(sequence, epochs, indices, seed=7):
    """The items of one worker in these epochs, and the worker's instance."""
    loader = SequenceLoader(Allowance(local=True))
    welcome = Welcome("e", 1.0, 1.0, 0, [f"{__name__}:{sequence.__name__}", {}], {})
    found = {}
    for epoch in epochs:
        message = Epoch(epoch, epoch, seed, {"epoch_ends": [[seed, 0, epoch]]})
        instance = loader.load(b"s", message, welcome)
        made = loader.make_items(message, lambda: None)
        found |= {(epoch, index): made.compute(index) for index in indices(epoch)}
    return found, instance


PLACES = {
    "has some items of each epoch": (range(5), lambda epoch: [3, 1]),
    "joins in the second epoch": (range(1, 5), lambda epoch: [2, 0, 1]),
    "joins in the last epoch": ([4], lambda epoch: [3, 2, 1, 0]),
    "has no item in some epochs": (range(5), lambda epoch: [2, 3] if epoch in (1, 4) else []),
    "skips epochs": ([0, 3, 4], lambda epoch: [1, 0]),
}


@pytest.mark.parametrize("sequence", KEEPING)
@pytest.mark.parametrize(("epochs", "indices"), PLACES.values(), ids=PLACES)
def test_a_worker_agrees_on_what_items_of_earlier_epochs_drew_and_keep_if_it(sequence, epochs, indices):
    expected = spec_items(sequence, range(5), lambda _: range(4))[0]
    found = spec_items(sequence, epochs, indices)[0]
    assert found == {place: expected[place] for place in found}


class Counts(Keeps):
    """Counts its items; draws and keeps nothing, or draws only."""

    items = 0

    def __init__(self):
        super().__init__()
        self.dealt = []

    def __getitem__(self, index):
        self.items += 1
        return 0


class CountsAndDraws(Counts):
    def __getitem__(self, index):
        self.items += 1
        return random.random()


def test_a_worker_that_joins_later_computes_few_items_before_if_none_keeps_what_it_draws():
    assert spec_items(Counts, [50], lambda _: [])[1].items == 1
    assert spec_items(CountsAndDraws, [50], lambda _: [])[1].items == 2
    assert spec_items(Counts, range(50), lambda _: [0])[1].items == 50


def test_an_instance_with_draws_under_other_seeds_is_made_once_for_this_seed():
    loader, welcome = SequenceLoader(Allowance(local=True)), Welcome("e", 1.0, 1.0, 0, [f"{__name__}:Keeps", {}], {})

    def loaded(session, epoch, seed, ends):
        message = Epoch(epoch, epoch, seed, {"epoch_ends": ends})
        sequence = loader.load(session, message, welcome)
        loader.make_items(message, lambda: None).compute(0)
        return sequence

    first = loaded(b"one", 0, 7, [])
    assert loaded(b"one", 1, 7, [[7, 0, 1]]) is first
    second = loaded(b"two", 2, 8, [[7, 0, 2]])
    assert second is not first
    assert loaded(b"two", 3, 8, [[7, 0, 2], [8, 2, 1]]) is second


@pytest.mark.parametrize("since", [-1, 2**63, "3", 1.5, True])
def test_a_since_that_is_no_epoch_is_the_peers_error(publish, since):
    with pytest.raises(ProtocolError, match="no epoch"):
        load_state(SequenceLoader(Allowance(local=True)), {**publish(Live()), "since": since})
