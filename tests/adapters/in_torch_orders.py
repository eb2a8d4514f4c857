"""Run by `test_torch`: an epoch's order is drawn once, in the trainer, and belongs to a resume state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    WeightedRandomSampler,
)

from enqueuer import ConfigurationError, SequenceEnqueuer, SequenceSpec, StateError
from enqueuer.adapters.torch import as_iterable, from_dataset
from tests.adapters.torch_odd_sources import LOSSES, Counted, Hardest, Named, Selected, Told

PROCESSES = pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
FIRST, SECOND = list(range(8)), list(range(20, 28))


def epochs_of(loader: Any, count: int, before: Any = lambda epoch: None) -> list[list[int]]:
    seen = []
    for epoch in range(count):
        before(epoch)
        seen.append([int(number) for batch in loader for number in batch])
    return seen


# ---------------------------------------------------------------- samplers that change


@PROCESSES
def test_what_the_training_chooses_in_its_sampler_holds_from_the_next_epoch_on(processes: bool) -> None:
    sampler = Selected(FIRST)

    def choose(epoch: int) -> None:
        if epoch == 1:
            sampler.chosen = list(SECOND)

    source = from_dataset(Counted(40, slow=FIRST[-1:]), 2, sampler=sampler)
    with SequenceEnqueuer(source, use_multiprocessing=processes, seed=1) as enq:
        seen = epochs_of(as_iterable(enq, workers=2), 3, choose)
    assert [sorted(epoch) for epoch in seen] == [FIRST, SECOND, SECOND]


@pytest.mark.parametrize("with_generator", [False, True])
def test_weights_that_the_training_changes_hold_from_the_next_epoch_on(with_generator: bool) -> None:
    def weights(chosen: list[int]) -> torch.Tensor:
        return torch.tensor([float(number in chosen) for number in range(40)], dtype=torch.double)

    generator = torch.Generator().manual_seed(3) if with_generator else None
    sampler = WeightedRandomSampler(weights(FIRST), 8, generator=generator)

    def reweigh(epoch: int) -> None:
        if epoch == 1:
            sampler.weights = weights(SECOND)

    with SequenceEnqueuer(from_dataset(Counted(40), 2, sampler=sampler), use_multiprocessing=True) as enq:
        seen = epochs_of(as_iterable(enq, workers=2), 3, reweigh)
    for epoch, allowed in zip(seen, [FIRST, SECOND, SECOND], strict=True):
        assert set(epoch) <= set(allowed)


def test_a_generator_that_the_training_seeds_each_epoch_gives_the_orders_of_a_data_loader() -> None:
    def sampler() -> RandomSampler:
        return RandomSampler(range(40), generator=torch.Generator())

    def run(loader: Any, seeded: Any) -> list[list[int]]:
        return epochs_of(loader, 4, lambda epoch: seeded.generator.manual_seed(7 * epoch) if epoch != 2 else None)

    theirs, ours = sampler(), sampler()
    wanted = run(DataLoader(Counted(40), 8, sampler=theirs), theirs)
    with SequenceEnqueuer(from_dataset(Counted(40), 8, sampler=ours), use_multiprocessing=True) as enq:
        assert run(as_iterable(enq, workers=2), ours) == wanted


@PROCESSES
def test_a_sampler_that_reads_what_is_no_part_of_it_gives_the_orders_of_a_data_loader(processes: bool) -> None:
    def train(loader: Any) -> list[list[int]]:
        LOSSES[:] = map(float, range(40))
        seen: list[list[int]] = []
        for _ in range(4):
            seen.append([])
            for batch in loader:
                seen[-1] += batch.tolist()
                for number in batch.tolist():
                    LOSSES[number] = -float(len(seen))
        return seen

    wanted = train(DataLoader(Counted(40), 2, sampler=Hardest()))
    assert len({number for epoch in wanted for number in epoch}) == 4 * 8, "each epoch has others"
    with SequenceEnqueuer(from_dataset(Counted(40), 2, sampler=Hardest()), use_multiprocessing=processes) as enq:
        assert train(as_iterable(enq, workers=2)) == wanted


def test_a_dataset_that_a_sampler_refers_to_is_not_copied() -> None:
    class Large(Counted):
        def __deepcopy__(self, memo: Any) -> Any:
            raise AssertionError("copied")

        def __reduce__(self) -> Any:
            raise AssertionError("pickled")

    class Own(Selected):
        def __init__(self, chosen: list[int]) -> None:
            super().__init__(chosen)
            self.dataset = Large(40)

    class Several(BatchSampler):
        def __init__(self, *parts: Any) -> None:
            super().__init__(Large(40), 4, False)  # type: ignore[arg-type]
            self.parts = list(parts)

        def __iter__(self) -> Iterator[list[int]]:
            return ([*part] for part in self.parts)

    samplers = {
        RandomSampler(Large(40)): 40,
        BatchSampler(SequentialSampler(Large(40)), 4, False): 40,
        Own(FIRST): len(FIRST),
        Several(Own(FIRST), Own(SECOND)): len(FIRST + SECOND),
    }
    for sampler, count in samplers.items():
        arguments: Any = {"batch_sampler" if isinstance(sampler, BatchSampler) else "sampler": sampler}
        with SequenceEnqueuer(from_dataset(Counted(40), **arguments)) as enq:
            seen = epochs_of(as_iterable(enq, workers=1), 2)
        assert [len(set(epoch)) for epoch in seen] == [count] * 2


def test_a_sampler_that_cannot_be_copied_is_refused_with_the_name_of_what_is_in_the_way() -> None:
    class Streaming(Selected):
        def __init__(self) -> None:
            super().__init__(FIRST)
            self.numbers = (number for number in range(40))

    text = r"^the numbers of a .*Streaming cannot be copied \(.*generator.*\), and .* let __iter__ make it"
    source = from_dataset(Counted(40), batch_sampler=BatchSampler(Streaming(), 2, False))
    with SequenceEnqueuer(source) as enq, pytest.raises(ConfigurationError, match=text):
        list(as_iterable(enq, workers=1))


# ---------------------------------------------------------------- lengths


class Estimated:
    def __init__(self, said: int, batches: Any) -> None:
        self.said, self.batches = said, batches

    def __len__(self) -> int:
        return self.said

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


@PROCESSES
@pytest.mark.parametrize("said", [3, 4, 5])
def test_an_epoch_has_the_batches_that_were_drawn_whatever_len_says(said: int, processes: bool) -> None:
    batches = [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9]]
    source = from_dataset(Counted(10), batch_sampler=Estimated(said, batches))
    with SequenceEnqueuer(source, use_multiprocessing=processes) as enq:
        loader = as_iterable(enq, workers=1)
        assert [[batch.tolist() for batch in loader] for _ in range(2)] == [batches] * 2


def test_a_batch_sampler_without_an_end_is_refused() -> None:
    class Endless(Estimated):
        def __iter__(self) -> Iterator[Any]:
            while True:
                yield [0]

    text = "says that it has 2 batches, and gives more than"
    source = from_dataset(Counted(4), batch_sampler=Endless(2, []))
    with SequenceEnqueuer(source) as enq, pytest.raises(ConfigurationError, match=text):
        list(as_iterable(enq, workers=1))


@pytest.mark.parametrize("kind", ["sampler", "batch_sampler"])
def test_a_dataset_needs_no_length_where_a_sampler_names_the_keys(kind: str) -> None:
    names = ["ab", "cd", "ef"]
    arguments: dict[str, Any] = {"batch_size": 2, "sampler": names}
    if kind == "batch_sampler":
        arguments = {"batch_sampler": BatchSampler(names, 2, False)}
    source = from_dataset(Named(), collate_fn=list, **arguments)
    with SequenceEnqueuer(source, use_multiprocessing=True) as enq:
        words = ["".join(map(chr, word)) for batch in as_iterable(enq, workers=1) for word in batch]
    assert words == names


# ---------------------------------------------------------------- the epoch is told


@pytest.mark.parametrize("how", ["live", "spec"])
@PROCESSES
def test_a_dataset_is_told_the_epoch(processes: bool, how: str) -> None:
    source = from_dataset(Told(), 2) if how == "live" else SequenceSpec("tests.adapters.torch_odd_sources:told")
    with SequenceEnqueuer(source, use_multiprocessing=processes) as enq:
        seen = epochs_of(as_iterable(enq, workers=2), 3)
    assert seen == [[100 * epoch + index for index in range(4)] for epoch in range(3)]


@pytest.mark.parametrize("first", [0, 5])
@PROCESSES
def test_what_the_training_tells_its_sampler_holds(processes: bool, first: int) -> None:
    def told() -> DistributedSampler[Any]:
        return DistributedSampler(Counted(40), 2, 1, seed=3)

    def run(loader: Any, sampler: DistributedSampler[Any]) -> list[list[int]]:
        return epochs_of(loader, 3, lambda epoch: sampler.set_epoch(first + epoch))

    theirs, ours = told(), told()
    wanted = run(DataLoader(Counted(40), 4, sampler=theirs), theirs)
    with SequenceEnqueuer(from_dataset(Counted(40), 4, sampler=ours), use_multiprocessing=processes) as enq:
        assert run(as_iterable(enq, workers=1), ours) == wanted


@PROCESSES
def test_what_the_training_tells_its_dataset_holds(processes: bool) -> None:
    dataset = Told()
    with SequenceEnqueuer(from_dataset(dataset, 2), use_multiprocessing=processes) as enq:
        seen = epochs_of(as_iterable(enq, workers=2), 3, lambda epoch: dataset.set_epoch(7 + epoch))
    assert seen == [[100 * (7 + epoch) + index for index in range(4)] for epoch in range(3)]


# ---------------------------------------------------------------- states


def loader_of(**order: Any) -> Any:
    return as_iterable(SequenceEnqueuer(from_dataset(list(range(40)), 4, **order)), workers=0)


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ({"shuffle": True, "seed": 1}, {"shuffle": True, "seed": 2}, "seed is 1, and this Sequence's is 2"),
        ({"shuffle": True, "seed": 1}, {}, "order is 'shuffled', and this Sequence's is 'in sequence'"),
        ({}, {"sampler": list(range(39, -1, -1))}, "order is 'in sequence', and this Sequence's is 'sampled'"),
        ({"sampler": list(range(40))}, {"sampler": list(range(39, -1, -1))}, "another order of epoch 0"),
    ],
)
def test_a_state_within_an_epoch_is_refused_for_another_order(
    first: dict[str, Any], second: dict[str, Any], text: str
) -> None:
    one, two = loader_of(**first), loader_of(**second)
    batches = iter(one)
    for _ in range(5):
        next(batches)
    with pytest.raises(StateError, match=text):
        two.load_state_dict(one.state_dict())
        next(iter(two))


@pytest.mark.parametrize("order", [{"shuffle": True, "seed": 5}, {"sampler": Selected(range(40))}])
def test_a_state_within_an_epoch_goes_on_with_the_rest_of_it(order: dict[str, Any]) -> None:
    one, two = loader_of(**order), loader_of(**order)
    batches = iter(one)
    seen = [next(batches).tolist() for _ in range(5)]
    two.load_state_dict(one.state_dict())
    seen += [batch.tolist() for batch in two]
    assert sorted(number for batch in seen for number in batch) == list(range(40))


def test_the_datasets_own_state_is_saved_and_loaded() -> None:
    class Keeping(Counted):
        def state_dict(self) -> dict[str, int]:
            return {"count": self.count}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.count = state["count"]

    one = SequenceEnqueuer(from_dataset(Keeping(8), 2))
    other = Keeping(6)
    SequenceEnqueuer(from_dataset(other, 2)).load_state_dict({**one.state_dict(), "order": None})
    assert other.count == 8


# ---------------------------------------------------------------- the default device


@pytest.fixture
def default_device() -> Iterator[None]:
    """Stands for "cuda": what is made there by mistake has no values."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.parametrize(
    "order", [{}, {"shuffle": True}, {"sampler": RandomSampler(range(12))}, {"sampler": Selected(range(12))}]
)
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_and_orders_lie_on_the_cpu_whatever_the_default_device(
    default_device: None, workers: int, order: dict[str, Any]
) -> None:
    with SequenceEnqueuer(from_dataset(Counted(12), 4, **order)) as enq:
        batches = list(as_iterable(enq, workers=workers))
    assert {batch.device.type for batch in batches} == {"cpu"}
    assert sorted(number for batch in batches for number in batch.tolist()) == list(range(12))
