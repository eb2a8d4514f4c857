"""The opening of epochs, their content and the user's hook, called as the hook thread calls them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from enqueuer import ConfigurationError
from enqueuer.compute.digest import sequence_digest
from enqueuer.core.events import EpochConfirmed, EpochOpened, Event
from enqueuer.memory.segment import map_segment, read_parts
from enqueuer.options import Options
from enqueuer.protocol.live_object import (
    CARRIED_LIMIT_BYTES,
    carried_parts,
    live_path,
    unpack_sequence,
    unpack_worker_init,
)
from enqueuer.runtime import sent_states
from enqueuer.runtime.bookmark import Bookmark
from enqueuer.runtime.epochs import EpochKeeper
from enqueuer.runtime.own_sequence import OwnSequence
from enqueuer.runtime.sent_states import Placement
from enqueuer.runtime.trainer_sequence import TrainerSequence
from tests.support.sequences import Adjustable, Bare, Growing, Journaled, Reshuffling, as_spec

THREADS = Placement(threads=True, processes=False, remote=False)
PROCESSES = Placement(threads=False, processes=True, remote=False)
REMOTE = Placement(threads=False, processes=False, remote=True)
BOTH = Placement(threads=False, processes=True, remote=True)
KEYED = Placement(threads=False, processes=False, remote=True, keys=True)
SEED = 11


class Trainer:
    """The part of a session that its `EpochKeeper` uses."""

    def __init__(
        self, sequence: Any, placement: Placement, directory: Path, first_epoch: int = 0, **options: Any
    ) -> None:
        self.sequence = sequence
        self.events: list[Event] = []
        self.lengths: list[tuple[int, int]] = []
        checked = Options(bind="tcp://127.0.0.1:*" if placement.remote else None, **options)
        self.bookmark = Bookmark(
            OwnSequence(TrainerSequence(lambda: self.sequence)), checked, seed=SEED, first_epoch=first_epoch
        )
        self.keeper = EpochKeeper(
            self.bookmark,
            placement,
            directory,
            self.events.append,
            lambda *length: self.lengths.append(length),
        )

    @property
    def opened(self) -> list[EpochOpened]:
        return [event for event in self.events if isinstance(event, EpochOpened)]

    @property
    def newest(self) -> EpochOpened:
        return self.opened[-1]

    def open(self, epoch: int = 0, **how: bool) -> EpochOpened:
        self.keeper.open(epoch, **how)
        return self.newest

    def finish(self, epoch: int) -> EpochOpened:
        """Take the epoch's last batch and wait for the first one of the next epoch."""
        self.keeper.taken(epoch)
        self.keeper.wanted(epoch + 1)
        return self.newest

    def confirmed(self) -> list[int]:
        return [event.epoch for event in self.events if isinstance(event, EpochConfirmed)]


Train = Callable[..., Trainer]


@pytest.fixture
def train(tmp_path: Path) -> Iterator[Train]:
    made: list[Trainer] = []

    def make(sequence: Any, placement: Placement = THREADS, **options: Any) -> Trainer:
        made.append(Trainer(sequence, placement, tmp_path, **options))
        return made[-1]

    yield make
    for trainer in made:
        trainer.keeper.close()


def received(opened: EpochOpened) -> Any:
    """The Sequence as a worker process builds it from the state."""
    path = live_path(opened.state)
    assert path is not None
    return unpack_sequence(read_parts(map_segment(path)))


@dataclass
class Unpicklable(Bare):
    """A Sequence that cannot be pickled, like one with an open connection."""

    def __reduce__(self) -> Any:
        raise TypeError("holds a connection")


# ---------------------------------------------------------------- opening


def test_an_epoch_of_threads_is_the_callers_own_object_and_nothing_is_sent(train: Train) -> None:
    trainer = train(Bare(length=5))
    opened = trainer.open(3)
    assert (opened.epoch, opened.generation, opened.seed, list(opened.order)) == (3, 0, SEED, [0, 1, 2, 3, 4])
    assert (opened.length, opened.digest, opened.state, opened.sequence) == (5, b"", {}, None)
    assert opened.gated is False
    assert trainer.keeper.instance(3) is trainer.sequence
    assert trainer.lengths == [(3, 5)]


def test_the_queue_knows_the_length_before_the_core_knows_the_epoch(tmp_path: Path) -> None:
    story: list[str] = []
    bookmark = Bookmark(OwnSequence(TrainerSequence(Bare)), Options(), seed=SEED, first_epoch=0)
    keeper = EpochKeeper(bookmark, THREADS, tmp_path, lambda _: story.append("post"), lambda *_: story.append("length"))
    keeper.open(0)
    assert story == ["length", "post"]


def test_an_epoch_of_processes_carries_a_copy_of_the_live_object(train: Train) -> None:
    trainer = train(Adjustable(length=5, factor=3), PROCESSES)
    opened = trainer.open()
    assert opened.sequence is None
    trainer.sequence.factor = 4
    assert received(opened) == Adjustable(length=5, factor=3)


def test_an_epoch_of_a_spec_carries_its_name_arguments_digest_and_past_epoch_ends(train: Train) -> None:
    spec = as_spec(Journaled(length=6))
    opened = train(spec, REMOTE).open()
    assert opened.sequence == [spec.target, spec.kwargs]
    assert opened.state == {"epoch_ends": []}
    assert opened.digest == sequence_digest(spec.target, spec.kwargs) != b""
    assert opened.length == 6


def test_a_spec_needs_no_digest_where_all_workers_have_this_very_code(train: Train) -> None:
    assert train(as_spec(Bare()), PROCESSES).open().digest == b""


def test_the_options_that_workers_need_are_sent_with_the_epoch(train: Train) -> None:
    options = train(Bare(), max_batches_per_worker=np.int64(7), worker_init="a.b:c").open().options
    assert options["max_batches"] == 7 and type(options["max_batches"]) is int
    assert options["worker_init"] == "a.b:c"


def test_a_callable_worker_init_is_in_the_bundle_and_not_in_the_options(train: Train) -> None:
    for sequence in (Bare(), as_spec(Bare())):
        opened = train(sequence, PROCESSES, worker_init=lambda: 42).open()
        assert opened.options["worker_init"] is None
        path = live_path(opened.state)
        assert path is not None
        init = unpack_worker_init(read_parts(map_segment(path)))
        assert init is not None and init() == 42
        assert received(opened) == sequence


def test_with_keys_a_live_object_travels_to_workers_elsewhere(train: Train) -> None:
    trainer = train(Adjustable(length=5, factor=3), KEYED, worker_init=lambda: 42)
    opened = trainer.open()
    assert opened.remote_refusal == ""
    parts = carried_parts(opened.remote_state)
    init = unpack_worker_init(parts)
    assert unpack_sequence(parts) == Adjustable(length=5, factor=3) and init is not None and init() == 42
    trainer.sequence.factor = 4
    changed = trainer.open()
    assert changed.generation == 1
    assert unpack_sequence(carried_parts(changed.remote_state)).factor == 4
    assert trainer.open().generation == 1


def test_without_keys_a_live_object_does_not_travel(train: Train) -> None:
    for placement in (REMOTE, BOTH):
        assert train(Bare(), placement).open().remote_state is None


@dataclass
class Heavy(Bare):
    data: Any = None


def test_an_object_too_large_or_impossible_to_pickle_is_refused_to_remote_workers_only(train: Train) -> None:
    large = train(Heavy(data=np.zeros(CARRIED_LIMIT_BYTES, np.uint8)), KEYED).open()
    assert large.remote_state is None and "SequenceSpec" in large.remote_refusal
    threads = Placement(threads=True, processes=False, remote=True, keys=True)
    unpicklable = train(Unpicklable(), threads).open()
    assert unpicklable.remote_state is None and "holds a connection" in unpicklable.remote_refusal


def test_remote_workers_are_not_told_where_the_trainers_own_processes_find_a_worker_init(train: Train) -> None:
    opened = train(as_spec(Bare()), BOTH, worker_init=lambda: 42).open()
    assert live_path(opened.state) is not None
    assert opened.remote_state == {"epoch_ends": []}


def test_a_named_worker_init_needs_no_bundle_for_a_spec(train: Train) -> None:
    assert live_path(train(as_spec(Bare()), PROCESSES, worker_init="a.b:c").open().state) is None


def test_shuffle_and_shard_make_the_order(train: Train) -> None:
    whole = train(Bare(length=10), shuffle=True, seed=SEED).open(2).order
    assert sorted(whole) == list(range(10)) != list(whole)
    shards = [train(Bare(length=10), shuffle=True, seed=SEED, shard=(rank, 2)) for rank in range(2)]
    first, second = [trainer.open(2) for trainer in shards]
    assert [*first.order, *second.order] == [*whole[0::2], *whole[1::2]]
    assert first.length == 10, "of the whole Sequence: what a worker's own instance must have"
    assert shards[0].lengths == [(2, 5)]


def test_an_empty_sequence_is_a_value_error(train: Train) -> None:
    trainer = train(Bare(length=0))
    with pytest.raises(ValueError, match=r"empty: len\(\) is 0"):
        trainer.open()
    assert trainer.events == [] and trainer.lengths == []


def test_too_few_batches_for_the_ranks_is_a_value_error_that_says_what_to_do(train: Train) -> None:
    trainer = train(Bare(length=2), shard=(0, 3))
    with pytest.raises(ValueError, match=r"2 batches for 3 ranks.*shard_remainder='repeat'"):
        trainer.open()
    assert len(train(Bare(length=2), shard=(2, 3), shard_remainder="repeat").open().order) == 1


def test_an_object_that_cannot_be_sent_is_a_configuration_error(train: Train) -> None:
    with pytest.raises(ConfigurationError, match="Unpicklable cannot be sent to worker processes"):
        train(Unpicklable(), PROCESSES).open()
    assert train(Unpicklable(), THREADS).open()


def test_a_length_that_is_no_integer_is_a_type_error(train: Train) -> None:
    class Odd:
        def __len__(self) -> Any:
            return 2.5

        def __getitem__(self, index: int) -> int:
            return index

    with pytest.raises(TypeError):
        train(Odd()).open()


# ---------------------------------------------------------------- the next epoch


def test_the_hook_runs_before_the_next_epoch_opens_with_what_it_changed(train: Train) -> None:
    for placement in (THREADS, PROCESSES):
        trainer = train(Growing(length=3, step=2), placement)
        trainer.open()
        assert trainer.finish(0).epoch == 1
        assert trainer.sequence.version == 1
        assert (trainer.newest.length, trainer.lengths[-1]) == (5, (1, 5))


def test_a_change_by_the_hook_makes_a_newer_generation(train: Train) -> None:
    trainer = train(Journaled(), PROCESSES)
    assert received(trainer.open()).version == 0
    assert received(trainer.finish(0)).version == 1
    assert [opened.generation for opened in trainer.opened] == [0, 1]


def test_an_unchanged_object_is_sent_once(train: Train) -> None:
    trainer = train(Bare(), PROCESSES)
    first, second = trainer.open(), trainer.finish(0)
    assert second.epoch == 1
    assert (first.generation, first.state) == (second.generation, second.state)


def test_an_epoch_that_can_be_checked_is_gated_and_confirmed_when_it_is_wanted(train: Train) -> None:
    for placement in (PROCESSES, REMOTE):
        trainer = train(as_spec(Bare()), placement)
        trainer.open()
        trainer.keeper.taken(0)
        assert trainer.newest.gated and trainer.confirmed() == []
        trainer.keeper.wanted(1)
        assert trainer.confirmed() == [1]
        assert len(trainer.opened) == 2


def test_the_first_epoch_of_a_run_is_not_gated(train: Train) -> None:
    trainer = train(Bare(), PROCESSES)
    assert not trainer.open().gated
    trainer.keeper.wanted(0)
    assert trainer.confirmed() == []


def test_an_epoch_of_threads_alone_is_never_gated(train: Train) -> None:
    trainer = train(Bare(), THREADS)
    trainer.open()
    assert not trainer.finish(0).gated
    assert trainer.confirmed() == []


def test_where_threads_share_the_object_the_next_epoch_opens_when_it_is_wanted(train: Train) -> None:
    trainer = train(Adjustable(length=4), THREADS)
    trainer.open()
    trainer.keeper.wanted(0)
    trainer.keeper.taken(0)
    assert [opened.epoch for opened in trainer.opened] == [0]
    trainer.sequence.length = 7
    trainer.keeper.wanted(1)
    assert [(opened.epoch, opened.length) for opened in trainer.opened] == [(0, 4), (1, 7)]
    assert not trainer.newest.gated


def test_after_a_hook_a_small_live_object_is_packed_at_once(train: Train) -> None:
    trainer = train(Journaled(length=4), PROCESSES)
    trainer.open()
    trainer.keeper.taken(0)
    assert trainer.newest.epoch == 1 and trainer.newest.gated
    assert received(trainer.newest).version == 1
    trainer.keeper.wanted(1)
    assert trainer.confirmed() == [1]


def test_after_a_hook_a_large_live_object_is_packed_when_its_epoch_is_wanted(train: Train) -> None:
    trainer = train(PickledWithHook(length=4, rows=bytes(2_000_000)), PROCESSES)
    trainer.open()
    trainer.keeper.taken(0)
    assert [opened.epoch for opened in trainer.opened] == [0]
    trainer.keeper.wanted(1)
    assert received(trainer.newest).length == 5
    assert not trainer.newest.gated


def test_an_epoch_does_not_open_after_a_hook_that_failed(train: Train) -> None:
    class Failing(Bare):
        def on_epoch_end(self) -> None:
            raise LookupError("in the hook")

    for placement in (THREADS, PROCESSES):
        trainer = train(Failing(), placement)
        trainer.open()
        with pytest.raises(LookupError):
            trainer.keeper.taken(0)
        trainer.keeper.wanted(1)
        assert [opened.epoch for opened in trainer.opened] == [0]


@dataclass
class Pickled(Bare):
    """Counts how often it is pickled, and may have rows and an array."""

    rows: Any = None
    array: Any = None
    picklings: ClassVar[list[bool]] = []

    def __getstate__(self) -> dict[str, Any]:
        self.picklings.append(True)
        return self.__dict__


@dataclass
class PickledWithHook(Pickled):
    def on_epoch_end(self) -> None:
        self.length += 1


@pytest.mark.parametrize("kind", [Pickled, PickledWithHook])
def test_a_large_object_is_pickled_once_an_epoch_at_most(train: Train, kind: type[Pickled]) -> None:
    trainer = train(kind(length=3, rows=bytes(2_000_000)), PROCESSES)
    trainer.open()
    for epoch in range(4):
        kind.picklings.clear()
        trainer.keeper.exhausted(epoch)
        trainer.finish(epoch)
        assert len(kind.picklings) == 1


def test_a_length_changed_before_the_epoch_opens_ahead_is_sent_with_it(train: Train) -> None:
    trainer = train(Bare(length=4), PROCESSES)
    trainer.open()
    trainer.sequence.length = 2
    trainer.keeper.exhausted(0)
    assert trainer.newest.gated
    assert (trainer.newest.length, received(trainer.newest).length) == (2, 2)


def many_rows() -> list[Any]:
    return [(number, f"row {number}") for number in range(20_000)]


def test_the_rows_of_an_unchanged_object_are_not_pickled_again(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = train(Pickled(length=3, rows=many_rows(), array=np.zeros(10_000)), PROCESSES)
    first = trainer.open()
    monkeypatch.setattr(sent_states, "pack_bundle", None)
    for epoch in range(3):
        trainer.keeper.exhausted(epoch)
        assert trainer.finish(epoch).generation == first.generation
    assert trainer.confirmed() == [1, 2, 3]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda changed: changed.rows.__setitem__(7, (7, "other")), id="a row"),
        pytest.param(lambda changed: changed.rows.__setitem__(7, (7.0, "row 7")), id="an equal row of another type"),
        pytest.param(lambda changed: changed.rows.append((0, "new")), id="one row more"),
        pytest.param(lambda changed: changed.rows.reverse(), id="the order of rows"),
        pytest.param(lambda changed: setattr(changed, "rows", changed.rows[1:]), id="another list"),
        pytest.param(lambda changed: changed.array.__setitem__(5, 1.0), id="an array"),
        pytest.param(lambda changed: setattr(changed, "extra", 1), id="an attribute"),
    ],
)
def test_a_change_of_an_object_with_many_rows_is_sent(train: Train, change: Callable[[Any], object]) -> None:
    trainer = train(Pickled(length=3, rows=many_rows(), array=np.zeros(10_000)), PROCESSES)
    trainer.open()
    trainer.keeper.taken(0)
    change(trainer.sequence)
    trainer.keeper.wanted(1)
    assert trainer.newest.generation == 1
    sent = received(trainer.newest)
    assert repr(sent.rows) == repr(trainer.sequence.rows)
    assert np.array_equal(sent.array, trainer.sequence.array)
    assert vars(sent).keys() == vars(trainer.sequence).keys()


def test_an_object_changed_after_the_epoch_was_opened_replaces_it(train: Train) -> None:
    trainer = train(Pickled(length=4), PROCESSES)
    trainer.open()
    trainer.keeper.taken(0)
    assert trainer.newest.gated
    trainer.sequence.rows = 9
    trainer.keeper.wanted(1)
    assert trainer.confirmed() == []
    assert (trainer.newest.epoch, trainer.newest.generation, trainer.newest.gated) == (1, 1, False)
    assert received(trainer.newest).rows == 9


def test_a_length_changed_after_the_epoch_was_opened_replaces_it(train: Train) -> None:
    trainer = train(Bare(length=4), PROCESSES)
    trainer.open()
    trainer.keeper.taken(0)
    trainer.sequence.length = 6
    trainer.keeper.wanted(1)
    assert (trainer.newest.epoch, len(trainer.newest.order), trainer.newest.gated) == (1, 6, False)
    assert trainer.lengths == [(0, 4), (1, 4), (1, 6)]


# ---------------------------------------------------------------- another Sequence


def test_a_replaced_sequence_takes_effect_with_the_next_epoch(train: Train) -> None:
    first, second = Journaled(length=3), Journaled(length=5)
    trainer = train(first)
    trainer.open()
    trainer.sequence = second
    assert trainer.keeper.instance(0) is first
    assert trainer.finish(0).length == 5
    assert trainer.keeper.instance(1) is second
    assert (first.version, second.version) == (1, 0), "the epoch that ended was the first one's"


def test_the_epoch_that_ended_was_the_old_sequences_even_if_the_new_one_was_prefetched(train: Train) -> None:
    first, second = Bare(length=3), Journaled(length=3)
    trainer = train(first, PROCESSES)
    trainer.open()
    trainer.sequence = second
    trainer.keeper.exhausted(0)
    assert trainer.newest.epoch == 1
    trainer.finish(0)
    assert second.version == 0
    assert trainer.confirmed() == [1]


def test_threads_go_on_with_the_old_object_while_its_epoch_is_open(train: Train) -> None:
    first, second = Bare(), Bare()
    trainer = train(first, prefetch_epochs=True)
    trainer.open()
    trainer.sequence = second
    trainer.keeper.exhausted(0)
    assert trainer.keeper.instance(0) is first
    assert trainer.keeper.instance(1) is second


def test_a_spec_may_replace_a_live_object_and_the_reverse(train: Train) -> None:
    trainer = train(Bare(length=3), BOTH)
    assert live_path(trainer.open().state) is not None
    trainer.sequence = as_spec(Bare(length=4))
    opened = trainer.finish(0)
    assert (opened.generation, opened.length, opened.state) == (1, 4, {"epoch_ends": []})
    trainer.sequence = Bare(length=5)
    opened = trainer.finish(1)
    assert (opened.generation, opened.sequence, received(opened).length) == (2, None, 5)


def test_a_spec_is_built_once_and_an_equal_one_changes_nothing(train: Train) -> None:
    trainer = train(as_spec(Bare()), REMOTE)
    trainer.open()
    instance = trainer.keeper.instance(0)
    trainer.sequence = as_spec(Bare())
    assert trainer.finish(0).generation == 0
    assert trainer.keeper.instance(1) is instance


def test_another_spec_begins_without_the_old_ones_epoch_ends(train: Train) -> None:
    trainer = train(as_spec(Journaled(length=3)), REMOTE)
    trainer.open()
    trainer.sequence = as_spec(Journaled(length=4))
    opened = trainer.finish(0)
    assert (opened.generation, opened.state) == (1, {"epoch_ends": []})


# ---------------------------------------------------------------- the hook's randomness


def test_a_specs_epoch_ends_are_counted_in_runs_of_epochs(train: Train) -> None:
    trainer = train(as_spec(Journaled()), REMOTE, first_epoch=4)
    trainer.open(4)
    assert trainer.finish(4).state == {"epoch_ends": [[SEED, 4, 1]]}
    assert trainer.finish(5).state == {"epoch_ends": [[SEED, 4, 2]]}
    assert trainer.opened[1].state == {"epoch_ends": [[SEED, 4, 1]]}, "what was sent must not change afterwards"


def test_a_sequence_without_a_hook_has_no_epoch_ends(train: Train) -> None:
    trainer = train(as_spec(Bare()), REMOTE)
    trainer.open()
    assert trainer.finish(0).state == {"epoch_ends": []}


def test_an_epoch_prefetched_before_a_specs_hook_ran_is_replaced(train: Train) -> None:
    trainer = train(as_spec(Journaled()), REMOTE, prefetch_epochs=True)
    trainer.open()
    trainer.keeper.exhausted(0)
    assert trainer.newest.state == {"epoch_ends": []}
    opened = trainer.finish(0)
    assert trainer.confirmed() == []
    assert (opened.epoch, opened.generation, opened.state) == (1, 1, {"epoch_ends": [[SEED, 0, 1]]})


def globals_state() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()
    return random.getstate(), name, np.asarray(keys).tolist(), rest


@pytest.mark.parametrize("options", [{}, {"seed": SEED}])
def test_a_specs_hook_is_seeded_and_the_global_generators_are_as_before(train: Train, options: dict[str, Any]) -> None:
    orders = []
    for _ in range(2):
        trainer = train(as_spec(Reshuffling(length=20)), REMOTE, **options)
        trainer.open()
        before = globals_state()
        trainer.finish(0)
        assert globals_state() == before
        orders.append(trainer.keeper.instance(1).order.tolist())
        np.random.random()
    assert orders[0] == orders[1] != list(range(40))


@pytest.mark.parametrize("options", [{}, {"seed": SEED}])
def test_a_live_objects_hook_is_seeded_also_if_the_seed_was_drawn(train: Train, options: dict[str, Any]) -> None:
    orders = []
    for _ in range(2):
        trainer = train(Reshuffling(length=20), THREADS, **options)
        trainer.open()
        before = globals_state()
        trainer.finish(0)
        assert globals_state() == before
        orders.append(trainer.sequence.order.tolist())
        np.random.random()
    assert orders[0] == orders[1] != list(range(40))


def test_the_global_generators_are_restored_when_the_hook_raises(train: Train) -> None:
    class Failing(Bare):
        def on_epoch_end(self) -> None:
            np.random.random()
            raise LookupError("in the hook")

    trainer = train(Failing(), seed=SEED)
    trainer.open()
    before = globals_state()
    with pytest.raises(LookupError):
        trainer.keeper.taken(0)
    assert globals_state() == before
    assert len(trainer.opened) == 1


# ---------------------------------------------------------------- prefetch


@pytest.mark.parametrize(
    ("sequence", "placement", "choice", "prefetched"),
    [
        (Bare(), PROCESSES, None, True),
        (Bare(), THREADS, None, False),
        (as_spec(Bare()), REMOTE, None, True),
        (as_spec(Bare()), THREADS, None, False),
        (Journaled(), PROCESSES, None, False),
        (as_spec(Journaled()), REMOTE, None, False),
        (Bare(), PROCESSES, False, False),
        (Bare(), THREADS, True, True),
        (Journaled(), PROCESSES, True, True),
    ],
)
def test_the_next_epoch_is_prefetched_if_nothing_can_change_in_between_or_as_the_option_says(
    train: Train, sequence: Any, placement: Placement, choice: bool | None, prefetched: bool
) -> None:
    trainer = train(sequence, placement, prefetch_epochs=choice)
    trainer.open()
    trainer.keeper.exhausted(0)
    assert [opened.epoch for opened in trainer.opened] == ([0, 1] if prefetched else [0])


@pytest.mark.parametrize("placement", [THREADS, PROCESSES])
def test_no_more_than_one_epoch_is_prefetched_however_short_they_are(train: Train, placement: Placement) -> None:
    trainer = train(Bare(length=1), placement, prefetch_epochs=True)
    trainer.open()
    for epoch in range(3):
        trainer.keeper.exhausted(epoch)
        trainer.keeper.exhausted(epoch + 1)
        assert [opened.epoch for opened in trainer.opened] == list(range(epoch + 2))
        trainer.finish(epoch)
        assert [opened.epoch for opened in trainer.opened] == list(range(epoch + 3)), "the next but one, at once"


def test_a_prefetched_epoch_is_not_opened_twice(train: Train) -> None:
    trainer = train(Bare(), PROCESSES)
    trainer.open()
    trainer.keeper.exhausted(0)
    trainer.finish(0)
    assert [opened.epoch for opened in trainer.opened] == [0, 1]
    assert trainer.confirmed() == [1]


# ---------------------------------------------------------------- segments


def test_the_segments_of_two_generations_stay_and_all_are_released_at_the_end(train: Train) -> None:
    trainer = train(Journaled(), PROCESSES)
    trainer.open()
    paths = []
    for epoch in range(4):
        paths.append(live_path(trainer.newest.state))
        trainer.finish(epoch)
    paths.append(live_path(trainer.newest.state))
    segments = list(trainer.keeper._states._segments)
    assert [segment.path for segment in segments] == paths[-2:]
    trainer.keeper.close()
    trainer.keeper.close()
    for segment in segments:
        with pytest.raises(OSError):
            map_segment(segment.path)


def test_a_spec_and_threads_need_no_segment(train: Train) -> None:
    for trainer in (train(as_spec(Journaled()), PROCESSES), train(Journaled(), THREADS)):
        trainer.open()
        trainer.finish(0)
        assert trainer.keeper._states._segments == []
