"""Run by `test_torch_trainers`: an enqueuer's loader in Accelerate's hands, which fetches a batch ahead of the loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import accelerate
import pytest
from accelerate.data_loader import DataLoaderDispatcher, prepare_data_loader
from torch.utils.data import DataLoader

from enqueuer import SequenceEnqueuer, StateError
from enqueuer.adapters.torch import TensorStream, as_iterable, from_dataset
from tests.adapters.torch_odd_sources import Counted

COUNT = 12
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # called by torchdata
PROCESSES = pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def prepared(stream: TensorStream, *, stateful: bool = False) -> Any:
    configuration = accelerate.DataLoaderConfiguration(use_stateful_dataloader=stateful)
    accelerator = accelerate.Accelerator(cpu=True, dataloader_config=configuration)
    return accelerator.prepare(DataLoader(stream, batch_size=None))


def stream_of(enq: SequenceEnqueuer) -> TensorStream:
    return as_iterable(enq, workers=1)


@PROCESSES
def test_the_state_of_a_stateful_loader_goes_on_at_the_loops_next_batch(processes: bool) -> None:
    seen: list[int] = []
    with SequenceEnqueuer(from_dataset(Counted(COUNT)), use_multiprocessing=processes) as enq:
        loader = prepared(stream_of(enq), stateful=True)
        for batch in loader:
            seen.append(int(batch))
            if len(seen) == 7:
                state = loader.state_dict()
                break
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    with SequenceEnqueuer(from_dataset(Counted(COUNT)), use_multiprocessing=processes) as enq:
        loader = prepared(stream_of(enq), stateful=True)
        loader.load_state_dict(state)
        seen += [int(batch) for batch in loader]
    assert seen == list(range(COUNT))


def test_the_streams_own_state_within_an_epoch_is_refused_and_names_the_one_to_save() -> None:
    with SequenceEnqueuer(from_dataset(Counted(COUNT))) as enq:
        stream = stream_of(enq)
        for number, batch in enumerate(prepared(stream)):
            assert int(batch) == number
            if number < COUNT - 1:
                with pytest.raises(StateError, match="use_stateful_dataloader=True"):
                    stream.state_dict()
        state = stream.state_dict()
    with SequenceEnqueuer(from_dataset(Counted(COUNT))) as enq:
        stream = stream_of(enq)
        stream.load_state_dict(state)
        assert stream.epoch == 1


def test_skipped_first_batches_are_skipped_once() -> None:
    with SequenceEnqueuer(from_dataset(Counted(COUNT))) as enq:
        accelerator = accelerate.Accelerator(cpu=True)
        loader = accelerator.prepare(DataLoader(stream_of(enq), batch_size=None))
        assert [int(batch) for batch in accelerator.skip_first_batches(loader, 7)] == list(range(7, COUNT))
        assert [int(batch) for batch in loader] == list(range(COUNT))


def test_a_ranks_part_that_accelerate_would_divide_again_is_refused() -> None:
    accelerate.Accelerator(cpu=True)
    with (
        SequenceEnqueuer(from_dataset(Counted(COUNT)), shard=(0, 2)) as enq,
        pytest.raises(RuntimeError, match="leave shard= out"),
    ):
        list(DataLoaderDispatcher(stream_of(enq), batch_size=None))


@pytest.mark.parametrize("shard", [(0, 1), (0, 2)])
def test_a_loader_whose_batches_each_process_would_take_apart_is_refused_while_it_is_prepared(
    shard: tuple[int, int],
) -> None:
    accelerate.Accelerator(cpu=True)
    with SequenceEnqueuer(from_dataset(Counted(COUNT)), shard=shard) as enq:
        loader = DataLoader(stream_of(enq), batch_size=None)
        with pytest.raises(RuntimeError, match=r"leave dispatch_batches= and shard= out.*or.*do not prepare\(\)"):
            prepare_data_loader(loader, num_processes=2, process_index=0, dispatch_batches=False)
        with pytest.raises(ValueError, match="split_batches"):
            prepare_data_loader(loader, num_processes=2, process_index=0, split_batches=True)
        assert len(list(prepare_data_loader(loader, num_processes=1, dispatch_batches=False))) == COUNT // shard[1]
