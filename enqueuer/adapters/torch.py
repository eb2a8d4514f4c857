"""PyTorch: a map-style dataset as the Sequence of an enqueuer, and the enqueuer as the loader of a training loop.

source = from_dataset(dataset, batch_size=64, shuffle=True)
with SequenceEnqueuer(source, use_multiprocessing=True) as enq:
    loader = as_iterable(enq, workers=8)
    while loader.epoch < 10:
        for x, y in loader:
            ...
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from enqueuer.adapters._frameworks import raise_for_framework

try:
    import torch
    import torch.distributed
    from torch.utils.data import BatchSampler, Dataset, IterableDataset, Sampler, get_worker_info
except ModuleNotFoundError as error:
    raise_for_framework(error)
    raise

from enqueuer.adapters._loops import (
    NOT_GIVEN,
    EpochLoop,
    EpochLoops,
    NotGiven,
    StartArguments,
    start_arguments,
    without_open_loop,
)
from enqueuer.adapters._order import Order, PlainOrder
from enqueuer.adapters._torch_arrays import collate_into_arrays, to_tensors
from enqueuer.adapters._torch_datasets import DatasetSequence
from enqueuer.adapters._torch_readers import (
    batches_of_group,
    check_batches_stay_whole,
    check_divided_once,
    check_ranks_were_known,
    check_state_is_the_loops,
    is_epoch_counter,
    is_lightnings_checkpoint,
    is_read_ahead,
    state_of_this_rank,
    states_of_all_ranks,
)
from enqueuer.adapters._torch_sampling import SampledOrder, permutation
from enqueuer.errors import ConfigurationError, with_article
from enqueuer.options import QueueSize

if TYPE_CHECKING:
    from enqueuer.sequence_enqueuer import SequenceEnqueuer

__all__ = ["DatasetSequence", "TensorStream", "as_iterable", "from_dataset", "rank_shard"]

_ONE_PROCESS = (
    "the enqueuer's own workers compute the batches, and its stream belongs to this process: "
    "use DataLoader(…, batch_size=None, num_workers=0)"
)


# ---------------------------------------------------------------- datasets as sources


class MapDataset(Protocol):
    """Samples by index, as a tensor, a list or a dataset of another library has them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def from_dataset(
    dataset: Dataset[Any] | MapDataset,
    batch_size: int | None = 1,
    *,
    shuffle: bool = False,
    sampler: Sampler[Any] | Iterable[Any] | None = None,
    batch_sampler: Sampler[list[Any]] | Iterable[list[Any]] | None = None,
    collate_fn: Callable[[Any], Any] | None = None,
    drop_last: bool = False,
    seed: int = 0,
    worker_init_fn: Callable[[int], Any] | None = None,
) -> DatasetSequence:
    """A map-style ``Dataset`` as a Sequence of batches; the arguments are ``DataLoader``'s.

    The batches are those of a ``DataLoader`` with the same order, as NumPy arrays. ``default_collate`` or
    ``collate_fn`` makes them (tensors become arrays); ``batch_size=None`` gives single samples, not collated. A
    dataset's ``__getitems__`` is used if it has one.

    The order of an epoch depends on its number and on ``seed``. This seed is not the enqueuer's, and must be the same
    on all ranks, as ``DistributedSampler``'s. ``shuffle=True`` permutes the samples as ``DistributedSampler`` does (the
    enqueuer's own ``shuffle=True`` would permute whole batches). Copies of a sampler are iterated in the trainer:
    an epoch has the batches that it gives as the epoch begins, whatever its ``len()`` says, and what the training
    changes in it (weights, a list, its generator's state) holds from the next epoch on. Samplers and the dataset are
    told the epoch by ``set_epoch``, until your own code tells them. Random numbers that the dataset draws in worker
    processes, from torch, NumPy and `random`, are the same on every run with the enqueuer's seed.

    In worker processes ``torch.utils.data.get_worker_info()`` names the worker and its copy of the dataset, and
    ``worker_init_fn`` is called with the worker's number for each new copy, before its first sample.

    For ``torch.distributed`` give the enqueuer ``shard=rank_shard()`` and leave ``DistributedSampler`` out. To keep the
    very samples of each rank, give that sampler as ``sampler=`` and leave ``shard`` out.
    For remote workers put the call into a function of a module that they have, and name it with `SequenceSpec`.

    The state of the stream has the order's kind, seed and sizes, and is refused for another order. A dataset's own
    ``state_dict`` and ``load_state_dict`` are called on the trainer's object: what its copies in worker processes
    change in themselves is not seen.

    Raises TypeError for an ``IterableDataset``, samplers without ``len()``, and datasets without it and without a
    sampler; ConfigurationError for arguments that exclude each other.
    """
    has_keys = sampler is not None or batch_sampler is not None
    required = ("__getitem__",) if has_keys else ("__getitem__", "__len__")
    if isinstance(dataset, IterableDataset) or not all(hasattr(dataset, name) for name in required):
        kind = with_article(type(dataset).__qualname__)
        raise TypeError(
            f"{kind} has no samples by index: only map-style datasets, with "
            "__getitem__, and __len__ unless a sampler names the keys, can be computed on any worker and exactly once"
        )
    order = _make_order(dataset, batch_size, shuffle, sampler, batch_sampler, drop_last, seed)
    if collate_fn is None and (batch_size is not None or batch_sampler is not None):
        collate_fn = collate_into_arrays
    single = batch_size is None and batch_sampler is None
    return DatasetSequence(dataset, order, collate_fn, single=single, worker_init_fn=worker_init_fn)


def _make_order(
    dataset: Any, batch_size: int | None, shuffle: bool, sampler: Any, batch_sampler: Any, drop_last: bool, seed: int
) -> Order:
    if batch_sampler is not None:
        if batch_size != 1 or shuffle or sampler is not None or drop_last:
            raise ConfigurationError("batch_sampler excludes batch_size, shuffle, sampler and drop_last")
        return SampledOrder(batch_sampler, dataset, seed)
    if sampler is not None and shuffle:
        raise ConfigurationError("sampler excludes shuffle: the sampler decides the order")
    if batch_size is None and drop_last:
        raise ConfigurationError(
            "batch_size=None takes single samples: there is no short batch for drop_last to leave out"
        )
    size = 1 if batch_size is None else batch_size
    if sampler is not None:
        return SampledOrder(BatchSampler(sampler, size, drop_last), dataset, seed)
    return PlainOrder(dataset, size, drop_last=drop_last, seed=seed, permutation=permutation if shuffle else None)


# `rank_shard` has said that this process is alone, which may change.
_was_alone = False


def rank_shard(group: Any = None) -> tuple[int, int]:
    """``shard=`` for this process: (rank, world size) of ``torch.distributed``, or (0, 1) where that is not used.

    Every rank then gets other batches and the same number of them; with ``drop_last=True`` also the same number of
    samples. Raises RuntimeError if torchrun started this process and ``init_process_group()`` was not called yet: all
    ranks would train on everything. Other launchers are noticed by the first loop over the enqueuer, which raises.
    """
    global _was_alone
    distributed = torch.distributed
    if distributed.is_available():
        if distributed.is_initialized():
            return distributed.get_rank(group), distributed.get_world_size(group)
        if distributed.is_torchelastic_launched():
            raise RuntimeError("call torch.distributed.init_process_group() before rank_shard()")
    _was_alone = True
    return 0, 1


# ---------------------------------------------------------------- the enqueuer as a loader


def as_iterable(
    enqueuer: SequenceEnqueuer,
    *,
    pin_memory: bool = False,
    workers: int | NotGiven | None = NOT_GIVEN,
    max_queue_size: QueueSize | None = None,
    epoch: int | None = None,
) -> TensorStream:
    """The enqueuer as an ``IterableDataset`` of batches of tensors: each ``for`` loop over it is an epoch.

    A loop that is broken off is followed by one over a new epoch, also over another loader of the same enqueuer. The
    loader can be wrapped as
    ``DataLoader(…, batch_size=None, num_workers=0)`` or in torchdata's ``StatefulDataLoader``.

    Tensors lie on the memory of the arrays that arrived and share it with nothing else; local *threads* deliver
    whatever memory the Sequence returned.

    Args:
        enqueuer: computes the batches. Given none of the arguments of ``start()`` below, it must have been started.
        pin_memory: torch makes a pinned copy of each tensor; without an accelerator this warns and does nothing, as in
            ``DataLoader``.
        workers: as for `SequenceEnqueuer.start` (None: one a CPU). With any of these three, the first loop starts an
            enqueuer that is not running; the arguments that are missing have the defaults of ``start()``.
        max_queue_size: as for `SequenceEnqueuer.start`.
        epoch: the number of the first loop's epoch, unless a state is loaded before.
    """
    if pin_memory and not _has_accelerator():
        warnings.warn("pin_memory=True, but there is no accelerator: memory is not pinned", stacklevel=2)
        pin_memory = False
    return TensorStream(enqueuer, pin_memory, start_arguments(workers, max_queue_size, epoch))


def _has_accelerator() -> bool:
    # torch.accelerator came with PyTorch 2.6.
    accelerator = getattr(torch, "accelerator", torch.cuda)
    return bool(accelerator.is_available())


class TensorStream(EpochLoops, IterableDataset[Any]):
    """The batches of an enqueuer as tensors, made by `as_iterable`.

    It has ``len()``, ``epoch``, ``state_dict()`` and ``load_state_dict()``.
    """

    def __init__(self, enqueuer: SequenceEnqueuer, pin_memory: bool, start: StartArguments) -> None:
        super().__init__(enqueuer, start=start)
        self._pin_memory = pin_memory
        # The loop of a loader that fetches a batch ahead.
        self._ahead: EpochLoop | None = None
        # Before the first batch of the group that Accelerate deals out next.
        self._group_state: Any = None

    def __iter__(self) -> Iterator[Any]:
        """One epoch.

        Raises RuntimeError in a ``DataLoader``'s worker process, in an Accelerate loader that would divide a rank's
        part among ranks again, and where `rank_shard` was asked too early.
        """
        if get_worker_info() is not None:
            raise RuntimeError(_ONE_PROCESS)
        check_divided_once(self.enqueuer._options.shard)
        if _was_alone:
            check_ranks_were_known(self.enqueuer._options.shard)
        loop = EpochLoop(self)
        self._ahead = loop if is_read_ahead() else None
        # A generator would hold a batch's arrays while the loop works with the tensors, or has dropped them.
        return map(partial(to_tensors, pin_memory=self._pin_memory), loop)

    @property
    def generator(self) -> None:
        """None: no generator of torch's decides the order.

        Raises RuntimeError where Accelerate prepares a loader with ``dispatch_batches=False``.
        """
        check_batches_stay_whole()

    def state_dict(self) -> Any:
        """The place after the last batch that was handed out, as `SequenceEnqueuer.state_dict` gives it. Lightning's
        checkpoint of several ranks gets the list of all ranks' states.

        Raises StateError within an epoch that Accelerate reads ahead: save its loader's own state.
        """
        if self._ahead is not None and self._ahead.is_under_way:
            check_state_is_the_loops()
        if batches_of_group():
            return self._group_state
        state = super().state_dict()
        if is_epoch_counter():
            state = without_open_loop(state)
        self._group_state = state
        return states_of_all_ranks(state) if is_lightnings_checkpoint() else state

    def load_state_dict(self, state: Any) -> None:
        self._ahead = None
        if is_lightnings_checkpoint():
            state = state_of_this_rank(state, self.enqueuer._options.shard)
        super().load_state_dict(state)

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot be sent to another process: {_ONE_PROCESS}")
