"""Run by `test_torch`: PyTorch datasets as the Sequence of an enqueuer."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from enqueuer import ConfigurationError, SequenceEnqueuer, SequenceSpec, Timing
from enqueuer.adapters.torch import from_dataset, rank_shard
from enqueuer.protocol.live_object import pack_object, unpack_object
from tests.adapters import torch_sources as sources
from tests.adapters.torch_sources import Fetched, Kinds, Numbers, Rotating
from tests.support.remote import RemoteWorker, free_address


class Places:
    """Threads, processes and a remote worker, for all tests, since importing torch takes each process seconds."""

    def __init__(self, address: str) -> None:
        self._enqueuers = {
            "threads": SequenceEnqueuer(Numbers(), seed=1),
            "processes": SequenceEnqueuer(Numbers(), use_multiprocessing=True, persistent_workers=True, seed=1),
            "remote": SequenceEnqueuer(Numbers(), bind=address, timing=Timing(heartbeat_interval=0.2), seed=1),
        }

    def run(self, place: str, sequence: Any, epochs: int = 2) -> list[list[Any]]:
        """The batches of the first epochs."""
        enq = self._enqueuers[place]
        enq.sequence = sequence
        enq.start(0 if place == "remote" else 2, epoch=0)
        batches = [list(enq.epoch()) for _ in range(epochs)]
        enq.stop()
        return batches

    def close(self) -> None:
        for enq in self._enqueuers.values():
            enq.close()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    address = free_address()
    log = tmp_path_factory.mktemp("remote") / "worker.log"
    with RemoteWorker(address, log, processes=1, arguments=("--drain-timeout", "2")):
        made = Places(address)
        yield made
        made.close()


def received(sequence: Any, workers: int = 1, epochs: int = 2, **options: Any) -> list[list[Any]]:
    """The batches of these epochs from local threads."""
    with SequenceEnqueuer(sequence, **options) as enq:
        enq.start(workers)
        return [list(enq.epoch()) for _ in range(epochs)]


def assert_same(mine: Any, theirs: Any) -> None:
    """The structure, the types of its leaves (arrays for tensors), and every bit."""
    if isinstance(theirs, torch.Tensor):
        assert isinstance(mine, np.ndarray)
        if theirs.dtype is torch.bfloat16:
            assert mine.dtype.name == "bfloat16"
            mine, theirs = mine.view(np.int16), theirs.view(torch.int16)
        assert (mine.dtype, mine.shape) == (theirs.numpy().dtype, tuple(theirs.shape))
        assert mine.tobytes() == theirs.contiguous().numpy().tobytes()
    elif isinstance(theirs, dict):
        assert list(mine) == list(theirs)
        for key in theirs:
            assert_same(mine[key], theirs[key])
    elif isinstance(theirs, (list, tuple)):
        assert type(mine) is type(theirs) and len(mine) == len(theirs)
        for one, other in zip(mine, theirs, strict=True):
            assert_same(one, other)
    else:
        assert type(mine) is type(theirs) and mine == theirs


# ---------------------------------------------------------------- batches


def test_default_batches_are_those_of_default_collate(places: Places) -> None:
    expected = list(DataLoader(Kinds(), batch_size=4))
    source = from_dataset(Kinds(), batch_size=4)
    assert_same([source[0], source[1]], expected)
    assert_same(places.run("processes", source, 1), [expected])


def test_batches_without_a_batch_size_are_single_samples() -> None:
    assert_same(received(from_dataset(Numbers(3), None), epochs=1), [[Numbers(3)[index] for index in range(3)]])


def test_a_collate_fn_and_getitems_are_used(places: Places) -> None:
    def collate(samples: list[Any]) -> Any:
        return {"x": torch.stack([x for x, _ in samples]), "y": [y for _, y in samples]}

    (batches,) = places.run("processes", from_dataset(Fetched(4), 2, collate_fn=collate), 1)
    assert batches[1]["y"] == [2, 3]
    np.testing.assert_array_equal(batches[1]["x"], np.full((2, 5), -1, np.float32))


def test_arrays_are_writable_and_own_their_memory() -> None:
    x, _ = from_dataset(Numbers(), 4)[0]
    assert x.flags.owndata and x.flags.writeable


def test_drop_last_leaves_out_the_short_batch() -> None:
    assert [len(from_dataset(Numbers(10), 4, drop_last=drop)) for drop in (False, True)] == [3, 2]
    assert [len(from_dataset(Numbers(8), 4, drop_last=drop)) for drop in (False, True)] == [2, 2]


# ---------------------------------------------------------------- order


def labels(epochs: list[list[Any]]) -> list[list[list[int]]]:
    return [[y.tolist() for _, y in batches] for batches in epochs]


def test_shuffling_is_that_of_a_distributed_sampler(places: Places) -> None:
    sampler = DistributedSampler(Numbers(), num_replicas=1, rank=0, seed=7)
    loader = DataLoader(Numbers(), batch_size=3, sampler=sampler)
    expected = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        expected.append([y.tolist() for _, y in loader])
    assert labels(received(from_dataset(Numbers(), 3, shuffle=True, seed=7), 2, 3)) == expected
    given = DistributedSampler(Numbers(), num_replicas=1, rank=0, seed=7)
    assert labels(places.run("processes", from_dataset(Numbers(), 3, sampler=given), 3)) == expected


def test_a_sampler_with_a_generator_goes_on_as_in_a_data_loader(places: Places) -> None:
    loader = DataLoader(Numbers(), batch_sampler=sources.with_generator())
    expected = [[y.tolist() for _, y in loader] for _ in range(3)]
    assert expected[0] != expected[1]
    assert labels(places.run("threads", sources.sampled(), 3)) == expected
    assert labels(places.run("processes", sources.sampled(), 3)) == expected
    assert labels(places.run("remote", SequenceSpec("tests.adapters.torch_sources:sampled"), 3)) == expected


def test_a_samplers_order_of_an_epoch_does_not_depend_on_the_epochs_seen_before() -> None:
    sequence = sources.sampled()
    with SequenceEnqueuer(sequence) as enq:
        enq.start(1, epoch=2)
        third = labels([list(enq.epoch())])
        enq.stop()
        enq.start(1, epoch=0)
        assert labels([list(enq.epoch()) for _ in range(3)])[2:] == third


def test_a_sampler_of_the_callers_own_is_iterated_once_an_epoch(places: Places) -> None:
    sampler = Rotating(4)
    epochs = labels(places.run("processes", from_dataset(Numbers(4), 2, sampler=sampler), 3))
    assert epochs == [[[0, 1], [2, 3]], [[1, 2], [3, 0]], [[2, 3], [0, 1]]]
    assert sampler.first == 0, "the caller's is left alone"


@pytest.mark.parametrize(
    "sampler",
    [
        RandomSampler(range(20)),
        SubsetRandomSampler(range(20)),
        WeightedRandomSampler(torch.ones(20), 20, replacement=False),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_torchs_samplers_without_a_generator_agree_on_all_workers(sampler: Sampler) -> None:
    batches = BatchSampler(sampler, 3, drop_last=False)
    state = torch.get_rng_state()
    first = labels(received(from_dataset(Numbers(), batch_sampler=batches), 3))
    assert torch.equal(torch.get_rng_state(), state), "the trainer's own generator is left alone"
    assert [sorted(label for batch in epoch for label in batch) for epoch in first] == [list(range(20))] * 2
    assert first[0] != first[1]
    assert labels(received(from_dataset(Numbers(), batch_sampler=batches), 1)) == first


def test_the_order_survives_pickling_with_a_dataset_of_its_own() -> None:
    dataset = Numbers()
    source = from_dataset(dataset, sampler=RandomSampler(dataset), batch_size=2)
    copy = pickle.loads(pickle.dumps(source))
    assert_same(copy[3][1], torch.from_numpy(source[3][1]))


# ---------------------------------------------------------------- randomness


def test_random_augmentation_is_the_same_on_any_workers(places: Places) -> None:
    spec = SequenceSpec("tests.adapters.torch_sources:augmented")
    first = places.run("processes", sources.augmented())
    assert_same(places.run("remote", spec), _tensors(first))
    assert labels(places.run("threads", sources.augmented())) == labels(first), "the order has a seed of its own"
    assert not np.array_equal(first[0][0][0], first[1][0][0])


def _tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    return [_tensors(child) for child in value]


# ---------------------------------------------------------------- ranks


def test_ranks_get_disjoint_batches_that_make_up_a_distributed_samplers_steps() -> None:
    """The global batch of each step holds the same samples as with ``DistributedSampler``."""
    ranks = [
        labels(received(from_dataset(Numbers(24), 3, shuffle=True, seed=7), 1, 2, shard=(rank, 2))) for rank in (0, 1)
    ]
    for epoch in range(2):
        for step in range(4):
            theirs: list[int] = []
            for rank in (0, 1):
                sampler = DistributedSampler(Numbers(24), num_replicas=2, rank=rank, seed=7)
                sampler.set_epoch(epoch)
                theirs += list(sampler)[step * 3 : step * 3 + 3]
            assert sorted(ranks[0][epoch][step] + ranks[1][epoch][step]) == sorted(theirs)


@pytest.mark.parametrize("drop_last", [False, True], ids=["padded", "drop_last"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_distributed_sampler_itself_gives_each_rank_its_very_batches(rank: int, drop_last: bool) -> None:
    """25 samples do not divide by 2 ranks: one is repeated, or left out."""

    def sampler() -> DistributedSampler[Any]:
        return DistributedSampler(Numbers(25), num_replicas=2, rank=rank, seed=7, drop_last=drop_last)

    theirs = sampler()
    loader = DataLoader(Numbers(25), batch_size=4, sampler=theirs)
    expected = []
    for epoch in range(2):
        theirs.set_epoch(epoch)
        expected.append(list(loader))
    assert_same(received(from_dataset(Numbers(25), 4, sampler=sampler()), 2), expected)


def test_the_shard_of_a_process_without_ranks_is_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rank_shard() == (0, 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a launch")
    with pytest.raises(RuntimeError, match="init_process_group"):
        rank_shard()


# ---------------------------------------------------------------- mistakes


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter([])


class NoLength(Sampler):
    def __iter__(self) -> Any:
        return iter([])


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"batch_sampler": sources.sequential(), "batch_size": 2}, ConfigurationError, "excludes"),
        ({"batch_sampler": sources.sequential(), "shuffle": True}, ConfigurationError, "excludes"),
        ({"sampler": Rotating(20), "shuffle": True}, ConfigurationError, "excludes"),
        ({"batch_size": None, "drop_last": True}, ConfigurationError, "drop_last"),
        ({"batch_size": 0}, ConfigurationError, "batch_size must be"),
        ({"seed": -1}, ConfigurationError, "seed must be"),
        ({"sampler": NoLength()}, TypeError, "len"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        from_dataset(Numbers(), **arguments)


def test_a_stream_of_samples_is_refused() -> None:
    with pytest.raises(TypeError, match="map-style"):
        from_dataset(Stream())


def test_tensors_of_a_dataset_reach_the_workers(places: Places) -> None:
    data = TensorDataset(torch.arange(30.0).reshape(10, 3), torch.arange(10))
    assert_same(places.run("processes", from_dataset(data, 5), 1), [list(DataLoader(data, 5))])


class Located(TensorDataset):
    """Each sample names the mapping of its process in which the first tensor lies."""

    def __getitem__(self, index: int) -> Any:
        address = self.tensors[0].data_ptr()
        for line in Path("/proc/self/maps").read_text().splitlines():
            first, last = (int(part, 16) for part in line.split()[0].split("-"))
            if first <= address < last:
                return self.tensors[0][index].item(), line.split(maxsplit=5)[-1]
        raise AssertionError("nowhere")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2], ids=str)
def test_tensors_of_a_dataset_exist_once_for_all_processes(places: Places, dtype: torch.dtype) -> None:
    numbers = torch.arange(100_000).remainder(8).to(dtype)
    ((batch,),) = places.run("processes", from_dataset(Located(numbers[8:]), None, sampler=[3]), 1)
    assert batch[0] == 3
    assert "memfd" in batch[1]


def test_odd_tensors_survive_the_way_to_a_process() -> None:
    leaf = torch.ones(3, requires_grad=True)
    odd = [leaf, torch.ones(2, 3).to_sparse(), torch.zeros(0, 3), torch.tensor(2.5), torch.arange(6).reshape(2, 3).T]
    odd += [
        torch.tensor([1 + 2j]).conj(),
        torch.arange(6)[::2],
        torch.nn.Parameter(torch.ones(2)),
        torch.ones(0).half(),
    ]
    odd += [torch.zeros(0, 2, dtype=torch.bfloat16), torch.tensor(1.5, dtype=torch.bfloat16)]
    copies = unpack_object(pack_object([*odd, leaf]))
    assert copies[0] is copies[-1], "one object remains one"
    for mine, theirs in zip(copies, [*odd, leaf], strict=True):
        assert (type(mine), mine.dtype, mine.shape) == (type(theirs), theirs.dtype, theirs.shape)
        assert (mine.layout, mine.requires_grad) == (theirs.layout, theirs.requires_grad)
        assert torch.equal(mine.to_dense(), theirs.to_dense())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
def test_a_nested_tensor_survives_the_way_to_a_process(layout: torch.layout) -> None:
    nested = torch.nested.nested_tensor([torch.ones(2), torch.zeros(3)], layout=layout)
    (copy,) = unpack_object(pack_object([nested]))
    assert (type(copy), copy.layout) == (type(nested), layout)
    assert [part.tolist() for part in copy.unbind()] == [[1.0, 1.0], [0.0, 0.0, 0.0]]
