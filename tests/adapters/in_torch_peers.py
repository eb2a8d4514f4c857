"""Run by `test_torch`: batch samplers, augmenters and states of datasets in the shapes that other libraries have.

Their batch samplers decide the batches, as in a DataLoader, on any workers. A training with a DataLoader calls
``set_epoch``; here the enqueuer does. Samplers without a generator have the order of `from_dataset`'s seed and not of
torch's own generator, so that a run can be repeated.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler, SequentialSampler

from enqueuer import SequenceEnqueuer, StateError
from enqueuer.adapters._torch_states import state_from_json
from enqueuer.adapters.torch import as_iterable, from_dataset
from tests.adapters.torch_batch_samplers import LABELS, ByLabel, Distinct, Grouped, OnlyTold, RoundRobin
from tests.adapters.torch_odd_sources import Augmented, Counted

EPOCHS = 3
Batches = list[list[int]]
SAMPLERS: dict[str, Callable[[], Any]] = {
    "no duplicates": lambda: Distinct(5, torch.Generator()),
    "by label": lambda: ByLabel(6, torch.Generator()),
    "in turn": lambda: RoundRobin(torch.Generator()),
    "told, at random": lambda: OnlyTold(
        RandomSampler(range(40), generator=torch.Generator().manual_seed(5)), 7, drop_last=False
    ),
    "grouped, in sequence": lambda: Grouped(SequentialSampler(range(40)), 4),
    "grouped, at random": lambda: Grouped(RandomSampler(range(40), generator=torch.Generator().manual_seed(5)), 4),
    "grouped, of a rank": lambda: Grouped(DistributedSampler(range(40), 2, 1, seed=3), 4),
}


def batches_of_data_loader(sampler: Any) -> list[Batches]:
    epochs = []
    for epoch in range(EPOCHS):
        for one in (sampler, sampler.sampler):
            if hasattr(one, "set_epoch"):
                one.set_epoch(epoch)
        epochs.append([batch.tolist() for batch in DataLoader(Counted(40), batch_sampler=sampler)])
    return epochs


def enqueuer_of(sampler: Any, processes: bool = False) -> SequenceEnqueuer:
    return SequenceEnqueuer(from_dataset(Counted(40), batch_sampler=sampler), use_multiprocessing=processes)


def epochs_of(enq: SequenceEnqueuer, workers: int) -> list[Batches]:
    loader = as_iterable(enq, workers=workers)
    return [[batch.tolist() for batch in loader] for _ in range(EPOCHS)]


# ---------------------------------------------------------------- batch samplers


@pytest.mark.parametrize("kind", list(SAMPLERS))
def test_batches_are_those_of_a_data_loader_that_tells_its_sampler_the_epoch(kind: str) -> None:
    wanted = batches_of_data_loader(SAMPLERS[kind]())
    with enqueuer_of(SAMPLERS[kind]()) as enq:
        assert epochs_of(enq, 2) == wanted


def test_worker_processes_follow_a_number_of_batches_that_changes() -> None:
    make = SAMPLERS["no duplicates"]
    wanted = batches_of_data_loader(make())
    assert len({len(make()), *map(len, wanted)}) == 3, "its len() is an estimate, and epochs differ"
    with enqueuer_of(make(), processes=True) as enq:
        assert epochs_of(enq, 2) == wanted


@pytest.mark.parametrize("kind", list(SAMPLERS))
def test_a_state_within_an_epoch_goes_on_with_the_rest_of_its_batches(kind: str) -> None:
    wanted = batches_of_data_loader(SAMPLERS[kind]())[1]
    with enqueuer_of(SAMPLERS[kind]()) as enq:
        loader = as_iterable(enq, workers=1, epoch=1)
        batches = iter(loader)
        assert [next(batches).tolist() for _ in range(2)] == wanted[:2]
        state = loader.state_dict()
    with enqueuer_of(SAMPLERS[kind]()) as enq:
        loader = as_iterable(enq, workers=1)
        loader.load_state_dict(state)
        assert [batch.tolist() for batch in loader] == wanted[2:]


def test_a_sampler_without_a_generator_draws_another_order_each_epoch_and_the_same_on_each_run() -> None:
    runs = []
    for workers in (1, 2):
        torch.manual_seed(workers)
        with enqueuer_of(Distinct(5)) as enq:
            runs.append(epochs_of(enq, workers))
    assert runs[0] == runs[1]
    for epoch in runs[0]:
        assert sorted(number for batch in epoch for number in batch) == list(range(40))
        assert all(len({LABELS[number] for number in batch}) == len(batch) for batch in epoch)
    assert runs[0][0] != runs[0][1] != runs[0][2] != runs[0][0]


# ---------------------------------------------------------------- augmenters


def test_augmenters_that_seed_themselves_draw_other_numbers_each_epoch_and_the_same_on_any_workers() -> None:
    """In a DataLoader their draws depend on the number of workers."""
    runs = []
    for workers in (1, 2):
        with SequenceEnqueuer(from_dataset(Augmented(8), 2), use_multiprocessing=True, seed=1) as enq:
            loader = as_iterable(enq, workers=workers)
            runs.append(torch.stack([torch.cat(list(loader)) for _ in range(3)]))
    assert torch.equal(*runs)
    assert len(runs[0].unique()) == 3 * 8 * 2 * 2, "no number twice"


# ---------------------------------------------------------------- states of datasets


class Remembering(Counted):
    """Its state is that of torch's generator and more, as datasets for torchdata have it; its samples are drawn."""

    loaded: Any = None

    def __getitem__(self, index: int) -> int:
        return int(torch.randint(1000, (1,)))

    def state_dict(self) -> dict[str, Any]:
        return {"generator": torch.get_rng_state(), "place": (3, {4: b"five"}), "scale": torch.ones(2).bfloat16()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        torch.set_rng_state(state["generator"])
        self.loaded = state


def remembering() -> tuple[Remembering, SequenceEnqueuer]:
    dataset = Remembering(40)
    sampler = RandomSampler(dataset, generator=torch.Generator().manual_seed(13))
    return dataset, SequenceEnqueuer(from_dataset(dataset, 7, sampler=sampler), use_multiprocessing=True)


def test_a_dataset_whose_state_has_tensors_is_resumed_within_an_epoch_and_at_its_end() -> None:
    dataset, enq = remembering()
    with enq:
        loader = as_iterable(enq, workers=1)
        wanted = dataset.state_dict()
        batches = iter(loader)
        next(batches)
        within = json.dumps(loader.state_dict())
        rest = [batch.tolist() for batch in batches]
        at_end = json.dumps(loader.state_dict())
        following = [batch.tolist() for batch in loader]
    for state, expected in ((within, rest), (at_end, following)):
        dataset, enq = remembering()
        with enq:
            loader = as_iterable(enq, workers=2)
            loader.load_state_dict(json.loads(state))
            assert [batch.tolist() for batch in loader] == expected
        assert dataset.loaded["place"] == wanted["place"]
        assert dataset.loaded["scale"].dtype is torch.bfloat16
        assert torch.equal(dataset.loaded["generator"], wanted["generator"])


def test_a_datasets_state_that_could_not_be_read_again_is_refused_when_it_is_saved() -> None:
    class Odd(Remembering):
        def state_dict(self) -> dict[str, Any]:
            return {"lock": threading.Lock} if self.loaded is None else {"array": np.ones(2)}

    dataset = Odd(4)
    with SequenceEnqueuer(from_dataset(dataset)) as enq:
        loader = as_iterable(enq, workers=1)
        for _ in range(2):
            next(iter(loader))
            with pytest.raises(StateError, match=r"let it return numbers, texts, tensors \(torch.from_numpy"):
                loader.state_dict()
            dataset.loaded = {}
    for text in ("no base64", "YWJj"):
        with pytest.raises(StateError, match="the dataset's own state cannot be read"):
            state_from_json({"torch.save": text})
