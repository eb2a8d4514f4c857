"""Run by `test_torch`: what a dataset finds in a worker process, and what it may send from there."""

from __future__ import annotations

import ctypes
import multiprocessing
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from enqueuer import ConfigurationError, SequenceEnqueuer
from enqueuer.adapters.torch import as_iterable, from_dataset
from tests.adapters.torch_odd_sources import (
    Asking,
    Box,
    Kept,
    Opened,
    Seeds,
    Threads,
    boxed,
    open_handle,
    take_three_threads,
)


def rows_of(source: Any, workers: int, epochs: int = 1) -> list[list[Any]]:
    with SequenceEnqueuer(source, use_multiprocessing=True, seed=1, min_workers=workers) as enq:
        loader = as_iterable(enq, workers=workers)
        return [list(zip(*(part.tolist() for part in batch), strict=True)) for _ in range(epochs) for batch in loader]


def test_get_worker_info_names_the_worker_and_augmenters_that_ask_it_agree_on_any_workers() -> None:
    one, two = (rows_of(from_dataset(Asking(), 2), workers, epochs=2) for workers in (1, 2))
    assert {number for batch in two for _, number, _, _ in batch} <= {0, 1}
    assert {count for batch in two for _, _, count, _ in batch} == {2}
    drawn = [[draw for batch in run for *_, draw in batch] for run in (one, two)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 16, "other draws for each sample and each epoch"


def test_seeds_that_a_sample_asks_for_are_its_own_on_any_workers_and_a_tensor_holds_them() -> None:
    one, two = (rows_of(from_dataset(Seeds(8)), workers, epochs=2) for workers in (1, 2))
    assert one == two
    assert all(seed == of_info for batch in one for seed, of_info in batch)
    assert len({seed for batch in one for seed, _ in batch}) == 16, "other ones for each sample and each epoch"


def test_worker_init_fn_sets_each_copy_of_the_dataset_up() -> None:
    dataset = Opened()
    source = from_dataset(dataset, 2, worker_init_fn=open_handle)
    with SequenceEnqueuer(source, use_multiprocessing=True) as enq:
        loader = as_iterable(enq, workers=1)
        for _ in range(2):
            assert torch.cat(list(loader)).tolist() == [0, 10, 20, 30, 40, 50, 60, 70]
            dataset.synced += 1  # so the next epoch has a new copy


def test_torch_has_the_threads_that_it_is_given_until_the_users_code_says_otherwise() -> None:
    for options, count in [({}, 1), ({"worker_threads": 2}, 2), ({"worker_init": take_three_threads}, 3)]:
        with SequenceEnqueuer(from_dataset(Threads(3)), use_multiprocessing=True, **options) as enq:
            loader = as_iterable(enq, workers=1)
            assert [[int(batch) for batch in loader] for _ in range(2)] == [[count] * 3] * 2


# ---------------------------------------------------------------- tensors


KINDS = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse rows": lambda: torch.eye(3).to_sparse_csr(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "jagged": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "parameter": lambda: torch.nn.Parameter(torch.ones(3)),
    "subclass": lambda: boxed(5),
}


class OfKind(Dataset):
    def __len__(self) -> int:
        return len(KINDS)

    def __getitem__(self, index: int) -> Any:
        return list(KINDS.values())[index]()


@pytest.mark.filterwarnings("ignore:Sparse", "ignore:torch.quantize", "ignore:TypedStorage", "ignore:The PyTorch API")
@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_tensors_that_no_array_holds_stay_what_they_are(processes: bool) -> None:
    with SequenceEnqueuer(from_dataset(OfKind(), None), use_multiprocessing=processes) as enq:
        got = dict(zip(KINDS, as_iterable(enq, workers=1), strict=True))
    for name, make in KINDS.items():
        wanted = make()
        facts = [(type(one), one.layout, one.dtype, one.requires_grad) for one in (got[name], wanted)]
        assert facts[0] == facts[1], name
    assert got["sparse"].to_dense().tolist() == torch.eye(3).tolist()
    assert isinstance(got["subclass"], Box) and got["subclass"].place == ("room", 5)
    assert got["subclass"].tolist() == [5.0, 5.0]


# ---------------------------------------------------------------- shared memory


def _ctypes_array() -> Any:
    return np.ctypeslib.as_array(multiprocessing.Array(ctypes.c_float, 8).get_obj())


MEMORIES = {
    "a tensor": lambda: torch.zeros(8).share_memory_(),
    "a bfloat16 tensor": lambda: torch.zeros(8, dtype=torch.bfloat16).share_memory_(),
    "a ctypes array": _ctypes_array,
    "a tensor on a ctypes array": lambda: torch.from_numpy(_ctypes_array()),
    "a part of a tensor": lambda: torch.zeros(2, 8).share_memory_()[1],
}


@pytest.mark.parametrize("kind", list(MEMORIES))
def test_memory_that_the_trainer_shares_is_shared_with_worker_processes(kind: str) -> None:
    dataset = Kept(MEMORIES[kind]())
    with SequenceEnqueuer(from_dataset(dataset, 2), use_multiprocessing=True) as enq:
        loader = as_iterable(enq, workers=2)
        wanted = [float(number + 1) for number in range(8)]
        assert torch.cat(list(loader)).tolist() == wanted
        assert [float(value) for value in dataset.memory] == wanted, "the trainer sees it"
        dataset.is_filled = True
        assert torch.cat(list(loader)).tolist() == wanted, "and so does every copy of the next epoch"


def test_what_the_training_writes_into_shared_memory_between_epochs_is_in_all_of_the_next() -> None:
    level = torch.zeros(12).share_memory_()
    with SequenceEnqueuer(from_dataset(TensorDataset(level), 4), use_multiprocessing=True) as enq:
        loader = as_iterable(enq, workers=1)
        for epoch in range(4):
            level.fill_(epoch)
            assert [batch.tolist() for (batch,) in loader] == [[float(epoch)] * 4] * 3


def test_a_shared_tensor_that_cannot_be_shared_is_refused() -> None:
    dataset = Kept(torch.zeros(8, requires_grad=True).share_memory_())
    with (
        SequenceEnqueuer(from_dataset(dataset, 2), use_multiprocessing=True) as enq,
        pytest.raises(ConfigurationError, match="worker processes cannot share it"),
    ):
        list(as_iterable(enq, workers=1))
