"""Loaders of other libraries between the stream and the training loop, and the consequences for the loop.

Accelerate's prepared loaders fetch a batch ahead of the loop, to know the last one. So the stream's own state is one
batch ahead of the training; a stateful loader (``use_stateful_dataloader=True``) knows better. With several processes
they deal batches out themselves, so a rank's part of the stream would be divided twice. The first process fetches a
group, a batch for each, and asks for the state before each of them; only the first of these is the loop's place.

Lightning and Hugging Face's ``Trainer`` count epochs themselves: they resume a checkpoint of an epoch's last step with
the next epoch, and not with the rest of that loop.

Lightning asks each rank's loader for its state, and writes only the first rank's answer. So each rank answers with the
states of all: see `states_of_all_ranks`.

No library tells an ``IterableDataset`` its reader; the call stack does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch.distributed

from enqueuer.errors import StateError

_AHEAD = (
    "Accelerate has fetched a batch more than your loop was given, and the state would leave that one out: prepare the "
    "loader with DataLoaderConfiguration(use_stateful_dataloader=True) and save its own state_dict(), or do not "
    "prepare() it, or save this state after the epoch's end"
)
_DIVIDED_TWICE = (
    "Accelerate divides the batches of this loader among its processes, and the enqueuer has shard={} as well, so most "
    "batches would be lost: leave shard= out, or do not prepare() the loader"
)
_TAKEN_APART = (
    "Accelerate with dispatch_batches=False lets each process take its samples out of the loader's batches, and this "
    "loader's batches are whole (batch_size=None): leave dispatch_batches= and shard= out, and the first process deals "
    "the batches out; or give the enqueuer shard=rank_shard(), and do not prepare() the loader"
)
_LIGHTNING = frozenset({"lightning", "pytorch_lightning"})
_EPOCH_COUNTERS = _LIGHTNING | {"transformers"}
_ALONE = (
    "rank_shard() was called before torch.distributed had its process group and said that there is one rank, so each "
    "of the {} ranks would train on all batches: make the enqueuer later, with Lightning in setup()"
)
_DIVIDERS = frozenset({"DataLoaderDispatcher", "IterableDatasetShard"})


def is_read_ahead() -> bool:
    """Whether the calling loop belongs to one of Accelerate's loaders."""
    return any(_module(frame).startswith("accelerate.") for frame in _callers())


def batches_of_group() -> int:
    """How many batches of the next group Accelerate has fetched."""
    for frame in _callers():
        if frame.f_code.co_name == "_fetch_batches" and _package(frame) == "accelerate":
            return len(frame.f_locals.get("batches") or ())
    return 0


def is_epoch_counter() -> bool:
    """Whether the caller is a trainer with epoch counts of its own, or one of its callbacks."""
    return any(_package(frame) in _EPOCH_COUNTERS for frame in _callers())


def is_lightnings_checkpoint() -> bool:
    """Whether Lightning itself calls the stream's method; it does so in all ranks at once."""
    return _package(sys._getframe(2)) in _LIGHTNING


def states_of_all_ranks(state: dict[str, Any]) -> Any:
    """The states of all ranks, as a list; this rank's state alone where there is no other. A collective call."""
    world_size = _world_size()
    if world_size == 1:
        return state
    states: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(states, state)
    return states


def state_of_this_rank(states: Any, shard: tuple[int, int]) -> Any:
    """This rank's state out of the states of all ranks, if its part of the batches is still the same."""
    if isinstance(states, list) and len(states) == _world_size() > 1:
        own = states[torch.distributed.get_rank()]
        if own.get("shard") == list(shard):
            return own
    return states


def _world_size() -> int:
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def check_divided_once(shard: tuple[int, int]) -> None:
    """Raise RuntimeError if the caller divides a rank's part among processes once more."""
    if shard == (0, 1):
        return
    for frame in _callers():
        is_divider = type(frame.f_locals.get("self")).__name__ in _DIVIDERS
        if is_divider and _module(frame).startswith("accelerate."):
            raise RuntimeError(_DIVIDED_TWICE.format(shard))


def check_batches_stay_whole() -> None:
    """Raise RuntimeError if Accelerate prepares a loader of whole batches to be taken apart by each process.

    Such a loader fails with a TypeError of Accelerate's before it asks the stream for anything. While it is prepared,
    the stream is asked for its generator.
    """
    frame = sys._getframe(2)
    if frame.f_code.co_name == "prepare_data_loader" and _package(frame) == "accelerate":
        loader = frame.f_locals.get("dataloader")
        if loader is not None and loader.batch_size is None:
            raise RuntimeError(_TAKEN_APART)


def check_ranks_were_known(shard: tuple[int, int]) -> None:
    """Raise RuntimeError if the shard was made for one rank, and there are more ranks now."""
    world_size = _world_size()
    if shard == (0, 1) and world_size > 1:
        raise RuntimeError(_ALONE.format(world_size))


def check_state_is_the_loops() -> None:
    """Raise StateError unless a stateful loader asks: it counts the batches handed out to the loop."""
    if not any(_module(frame).startswith("torchdata.") for frame in _callers()):
        raise StateError(_AHEAD)


def _callers() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _package(frame: FrameType) -> str:
    return _module(frame).partition(".")[0]
