"""Run by `test_torch`: the enqueuer as a PyTorch loader."""

from __future__ import annotations

import gc
import json
import pickle
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from enqueuer import SequenceEnqueuer
from enqueuer.adapters._torch_arrays import to_tensors
from enqueuer.adapters.torch import as_iterable, from_dataset
from tests.adapters.plain_sources import LARGE, FailsAt, Large, Nested, Regression
from tests.adapters.recycled import Blocks, hold_and_drop
from tests.adapters.torch_sources import Numbers
from tests.support.leaks import resources
from tests.support.waiting import wait_until


def enqueuer(sequence: Any, processes: bool = False, **options: Any) -> SequenceEnqueuer:
    return SequenceEnqueuer(sequence, processes, **{"seed": 1, **options})


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(torch.equal(torch.as_tensor(one), torch.as_tensor(other)))


# ---------------------------------------------------------------- tensors


def test_a_nested_batch_has_tensors_on_the_memory_of_its_arrays() -> None:
    batch = Nested()[0]
    tensors = to_tensors(batch)
    assert tensors["pair"][0].data_ptr() == batch["pair"][0].ctypes.data
    assert type(tensors["pair"]) is tuple and type(tensors["pair"][1]) is list
    assert equal(tensors["pair"][1][0], torch.arange(4))
    assert isinstance(tensors["pair"][1][1], np.ndarray), "text is no tensor"
    assert (tensors["none"], tensors["text"], tensors["number"]) == (None, "hello", 3.5)
    assert tensors["scalar"].dtype is torch.float32 and tensors["scalar"].shape == ()
    assert tensors["flags"].dtype is torch.bool
    assert isinstance(tensors["when"], np.ndarray)
    assert tensors["big endian"].tolist() == [0, 1, 2]
    assert tensors["backwards"].tolist() == [3, 2, 1, 0]
    assert tensors["empty"].shape == (0, 3)


def test_read_only_arrays_are_copied_without_a_warning() -> None:
    array = np.arange(3)
    array.flags.writeable = False
    tensor = to_tensors(array)
    tensor += 1
    assert array.tolist() == [0, 1, 2]


def test_long_doubles_remain_arrays() -> None:
    assert isinstance(to_tensors(np.zeros(2, np.longdouble)), np.ndarray)


def test_masked_arrays_keep_their_masks() -> None:
    masked = np.ma.masked_array([1.0, 2.0], [False, True])
    (got,) = to_tensors([masked])
    assert got is masked


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_tensors_of_a_type_that_numpy_lacks_stay_tensors_with_threads() -> None:
    original = torch.ones(4, 3, dtype=torch.complex32)
    with enqueuer(from_dataset(original, 2)) as enq:
        batches = list(as_iterable(enq, workers=1))
    assert [(batch.dtype, tuple(batch.shape)) for batch in batches] == [(torch.complex32, (2, 3))] * 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_types_that_numpy_lacks_come_back_as_they_were(dtype: torch.dtype) -> None:
    pytest.importorskip("ml_dtypes")
    original = torch.arange(12, dtype=torch.float32).reshape(4, 3).to(dtype)
    with enqueuer(from_dataset(original, 2)) as enq:
        batches = list(as_iterable(enq, workers=1))
    assert [batch.dtype for batch in batches] == [dtype, dtype]
    assert torch.equal(torch.cat(batches).view(torch.uint8), original.view(torch.uint8))


def test_tensors_keep_memory_that_would_be_recycled() -> None:
    blocks = Blocks()
    held: dict[int, torch.Tensor] = {}
    for number in range(3000):
        tensor = to_tensors([blocks.array((256,), np.int64, number)])[0]
        # A part of it as well: it keeps the whole.
        held[number] = tensor[10:20] if number % 2 else tensor
        del tensor
        if len(held) > 300:
            for key in list(held)[::2]:
                assert set(held.pop(key).tolist()) == {key}
    assert blocks.recycled_count > 2000
    assert all(set(tensor.tolist()) == {key} for key, tensor in held.items())


def test_thousands_of_batches_held_and_dropped_keep_their_contents() -> None:
    with enqueuer(Large(1500), processes=True) as enq:
        held = hold_and_drop(as_iterable(enq, workers=2, max_queue_size=64), 1500)
    for key, tensor in held.items():
        assert torch.equal(tensor, torch.full((LARGE,), float(key % 1500)))


# ---------------------------------------------------------------- epochs


def values(loader: Any) -> list[int]:
    return [int(batch[0]) for batch in loader]


def test_each_loop_is_an_epoch() -> None:
    with enqueuer(FailsAt(5, bad=-1)) as enq:
        loader = as_iterable(enq, workers=2)
        assert isinstance(loader, IterableDataset) and len(loader) == 5
        epochs = []
        while loader.epoch < 3:
            epochs.append(values(loader))
        assert epochs == [[0, 1, 2, 3, 4]] * 3


def test_a_loop_that_was_broken_off_is_followed_by_a_new_epoch() -> None:
    with enqueuer(FailsAt(5, bad=-1)) as enq:
        loader = as_iterable(enq)
        enq.start(2, 7)
        assert [int(batch[0]) for batch, _ in zip(loader, range(2), strict=False)] == [0, 1]
        assert values(loader) == [0, 1, 2, 3, 4]
        assert loader.epoch == 2
        # Left after its last batch: nothing of it is left.
        for batch in loader:
            if int(batch[0]) == 4:
                break
        assert loader.epoch == 3
        assert values(loader) == [0, 1, 2, 3, 4]
        assert loader.epoch == 4


def test_the_epoch_among_the_arguments_is_where_the_first_loop_begins() -> None:
    with enqueuer(FailsAt(5, bad=-1), shuffle=True) as enq:
        loader = as_iterable(enq, workers=1, epoch=3)
        next(iter(loader))
        state = loader.state_dict()
        assert loader.epoch == 3
        fourth = values(loader)
        assert loader.epoch == 5
    with enqueuer(FailsAt(5, bad=-1), shuffle=True) as enq:
        loader = as_iterable(enq, workers=1, epoch=0)
        loader.load_state_dict(state)
        assert len(values(loader)) == 4
        assert values(loader) == fourth


def test_a_loop_that_another_one_replaced_gets_an_error() -> None:
    with enqueuer(FailsAt(5, bad=-1)) as enq:
        loader = as_iterable(enq, workers=1)
        first, second = iter(loader), iter(loader)
        assert int(next(first)[0]) == int(next(second)[0]) == 0
        with pytest.raises(RuntimeError, match="another loop"):
            next(first)
        assert values(second) == [1, 2, 3, 4]
        assert list(second) == []


def test_an_enqueuer_that_is_not_running_and_cannot_be_started_is_an_error() -> None:
    with enqueuer(FailsAt()) as enq, pytest.raises(RuntimeError, match=r"start\(workers=…\)"):
        next(iter(as_iterable(enq)))


def test_a_wrong_argument_is_an_error_at_once() -> None:
    with enqueuer(FailsAt()) as enq, pytest.raises(TypeError, match="max_queue"):
        as_iterable(enq, workers=2, max_queue=8)  # type: ignore[call-arg]


def test_no_number_of_workers_means_one_a_cpu_as_for_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enqueuer.sequence_enqueuer.usable_cpus", lambda: 3)
    with enqueuer(FailsAt(5, bad=-1)) as enq:
        next(iter(as_iterable(enq, workers=None)))
        assert enq.workers == 3


def test_an_error_comes_in_its_batchs_place_and_the_loader_can_be_used_again() -> None:
    with enqueuer(FailsAt()) as enq:
        loader = as_iterable(enq, workers=2)
        for _ in range(2):
            seen = []
            with pytest.raises(ValueError, match="no batch 4"):
                seen += [seen.append(int(batch[0])) for batch in loader]
            assert seen == [0, 1, 2, 3]


# ---------------------------------------------------------------- inside torch's own loaders


def test_a_loader_works_inside_a_data_loader_without_workers() -> None:
    with enqueuer(Regression(5)) as enq:
        direct = list(as_iterable(enq, workers=1))
    with enqueuer(Regression(5)) as enq:
        wrapped = DataLoader(as_iterable(enq, workers=1), batch_size=None, num_workers=0)
        assert len(wrapped) == 5
        assert equal(list(wrapped), direct)


def test_a_data_loader_with_workers_of_its_own_is_refused() -> None:
    with enqueuer(Regression(5)) as enq:
        loader = as_iterable(enq, workers=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork beside threads
            forked = DataLoader(loader, batch_size=None, num_workers=1, multiprocessing_context="fork")
            with pytest.raises(RuntimeError, match="num_workers=0"):
                next(iter(forked))
        with pytest.raises(TypeError, match="num_workers=0"):
            pickle.dumps(loader)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator here")
def test_pinning_without_an_accelerator_warns_and_does_nothing() -> None:
    with enqueuer(Regression(2)) as enq:
        with pytest.warns(UserWarning, match="no accelerator"):
            loader = as_iterable(enq, pin_memory=True, workers=1)
        assert not any(x.is_pinned() for x, _ in loader)


def test_pinning_is_torchs_own_copy_of_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch is told that there is an accelerator, so that the test runs on any machine."""
    copied: list[int] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        copied.append(tensor.data_ptr())
        return tensor.clone()

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    with enqueuer(Nested()) as enq:
        batch = next(iter(as_iterable(enq, pin_memory=True, workers=1)))
    tensors = [batch["pair"][0], batch["pair"][1][0], *(batch[key] for key in ("scalar", "flags", "empty"))]
    tensors += [batch["big endian"], batch["backwards"]]
    assert len(copied) == len(tensors)
    assert not {tensor.data_ptr() for tensor in tensors if tensor.numel()} & set(copied)
    assert isinstance(batch["when"], np.ndarray) and batch["text"] == "hello"


def test_pinning_asks_cuda_in_a_torch_without_an_accelerator_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "accelerator")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with enqueuer(Regression(2)) as enq, pytest.warns(UserWarning, match="no accelerator"):
        as_iterable(enq, pin_memory=True)


# ---------------------------------------------------------------- resuming


def uninterrupted(epochs: int = 3) -> list[Any]:
    with enqueuer(Regression(6), shuffle=True) as enq:
        loader = as_iterable(enq, workers=2)
        return [batch for _ in range(epochs) for batch in loader]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 7, 12])
def test_a_loader_goes_on_at_the_very_next_batch(count: int) -> None:
    """6 batches an epoch: in the middle, and on both sides of a boundary."""
    expected = uninterrupted()
    with enqueuer(Regression(6), shuffle=True) as enq:
        loader = as_iterable(enq, workers=2)
        before = [batch for _, batch in zip(range(count), _all(loader), strict=False)]
        state = json.loads(json.dumps(loader.state_dict()))
    with enqueuer(Regression(6), shuffle=True) as enq:
        loader = as_iterable(enq, workers=1)
        loader.load_state_dict(state)
        assert loader.epoch == count // 6
        after = []
        while loader.epoch < 3:
            after += list(loader)
        assert loader.state_dict()["epoch"] == 2
    assert equal(before + after, expected)


def _all(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def test_a_running_loader_can_load_an_earlier_state() -> None:
    with enqueuer(Regression(6), shuffle=True) as enq:
        loader = as_iterable(enq, workers=2)
        stream = iter(loader)
        next(stream)
        state = loader.state_dict()
        rest = list(stream)
        loader.load_state_dict(state)
        assert equal(list(loader), rest)


# torchdata 0.11 calls what PyTorch 2.13 has deprecated.
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("count", [0, 2, 6, 8])
def test_torchdatas_stateful_data_loader_resumes_a_loader(count: int) -> None:
    expected = uninterrupted(2)
    with enqueuer(Regression(6), shuffle=True) as enq:
        loader = StatefulDataLoader(as_iterable(enq, workers=2), batch_size=None, num_workers=0)
        before = [batch for _, batch in zip(range(count), _all(loader), strict=False)]
        state = json.loads(json.dumps(loader.state_dict()))
    with enqueuer(Regression(6), shuffle=True) as enq:
        loader = StatefulDataLoader(as_iterable(enq, workers=2), batch_size=None, num_workers=0)
        loader.load_state_dict(state)
        after = []
        while loader.dataset.epoch < 2 or not after:
            after += list(loader)
    assert equal(before + after, expected)


# ---------------------------------------------------------------- training


def losses(loader: Any, epochs: int = 3) -> list[float]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    curve = []
    for _ in range(epochs):
        for x, y in loader:
            loss = torch.nn.functional.mse_loss(model(x)[:, 0], y.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
    return curve


@pytest.fixture
def own_temporary_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="leaks-") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield


@pytest.mark.usefixtures("own_temporary_directory")
def test_training_has_the_very_losses_of_a_data_loader_and_leaves_nothing_behind() -> None:
    expected = losses(DataLoader(Numbers(40), batch_size=4))
    before = resources()
    with enqueuer(from_dataset(Numbers(40), batch_size=4), processes=True) as enq:
        assert losses(as_iterable(enq, workers=2)) == expected
    del enq
    gc.collect()
    wait_until(lambda: not resources().beyond(before), what="nothing left")


class Tracked(Large):
    """Keeps a weak reference to each array that it returned."""

    def __init__(self) -> None:
        super().__init__(4)
        self.given: list[weakref.ref[np.ndarray]] = []

    def __getitem__(self, index: int) -> Any:
        batch = super().__getitem__(index)
        self.given.append(weakref.ref(batch["x"]))
        return batch


@pytest.mark.parametrize("wrap", [iter, lambda loader: iter(DataLoader(loader, batch_size=None))], ids=["it", "in it"])
def test_a_loader_does_not_hold_the_batch_that_the_loop_dropped(wrap: Any) -> None:
    source = Tracked()
    with enqueuer(source) as enq:
        stream = wrap(as_iterable(enq, workers=0))
        for index in range(3):
            tensor = next(stream)["x"]
            assert source.given[index]() is not None, "the tensor lies on it"
            del tensor
            assert source.given[index]() is None
