"""PyTorch: map-style datasets as what an enqueuer computes, and the enqueuer as what a training loop iterates.

source = from_dataset(dataset, batch_size=64, shuffle=True)
with SequenceEnqueuer(source, use_multiprocessing=True) as enq:
    loader = as_iterable(enq, workers=8)
    while loader.epoch < 10:
        for x, y in loader:
            ...
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
from torch.utils.data import BatchSampler, IterableDataset, get_worker_info

from enqueuer.adapters._order import Order, PlainOrder
from enqueuer.adapters._stream import EpochStream, Pass
from enqueuer.adapters._torch_arrays import collate_into_arrays, to_arrays, to_tensors
from enqueuer.adapters._torch_sampling import SampledOrder, permutation
from enqueuer.compute.context import item_epoch
from enqueuer.errors import ConfigurationError
from enqueuer.sequence import Sequence

if TYPE_CHECKING:
    from enqueuer.sequence_enqueuer import SequenceEnqueuer

__all__ = ["DatasetSequence", "TensorStream", "as_iterable", "from_dataset", "rank_shard"]

_ONE_PROCESS = (
    "the enqueuer's own workers compute the batches, and its stream belongs to this process: "
    "use DataLoader(…, batch_size=None, num_workers=0)"
)


# ---------------------------------------------------------------- datasets as sources


def from_dataset(
    dataset: Any,
    batch_size: int | None = 1,
    *,
    shuffle: bool = False,
    sampler: Any = None,
    batch_sampler: Any = None,
    collate_fn: Callable[[Any], Any] | None = None,
    drop_last: bool = False,
    seed: int = 0,
) -> DatasetSequence:
    """A map-style ``Dataset`` as a Sequence of batches; the arguments are ``DataLoader``'s.

    The batches are those of a ``DataLoader`` with the same order, as NumPy arrays: ``default_collate`` unless
    ``collate_fn`` is given (whose tensors become arrays too), and single samples, not collated, for
    ``batch_size=None``. A dataset's ``__getitems__`` is used if it has one.

    The order of an epoch depends on its number and on ``seed``, which, as ``DistributedSampler``'s, must be the same on
    all ranks, and is not the enqueuer's. ``shuffle=True`` permutes the samples as ``DistributedSampler`` does. Samplers
    are told the epoch by their ``set_epoch``, so do not call it; see `SampledOrder` for those that have none. (The
    enqueuer's own ``shuffle=True`` would permute whole batches.) Random numbers that the dataset draws in worker
    processes, from torch, NumPy and `random`, are the same on every run with the enqueuer's seed.

    For ``torch.distributed`` give the enqueuer ``shard=rank_shard()`` and no ``DistributedSampler``; or that as
    ``sampler=``, for each rank's very samples, and no ``shard``.
    For remote workers put the call into a function of a module that they have, and name that with `SequenceSpec`.

    Raises TypeError for an ``IterableDataset`` and samplers without ``len()``, ConfigurationError for arguments that
    exclude each other.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise TypeError(
            f"a {type(dataset).__qualname__} has no samples by index: only map-style datasets, with __getitem__ and "
            "__len__, can be computed on any worker and exactly once"
        )
    order = _order(dataset, batch_size, shuffle, sampler, batch_sampler, drop_last, seed)
    if collate_fn is None and (batch_size is not None or batch_sampler is not None):
        collate_fn = collate_into_arrays
    return DatasetSequence(dataset, order, collate_fn, single=batch_size is None and batch_sampler is None)


def _order(
    dataset: Any, batch_size: int | None, shuffle: bool, sampler: Any, batch_sampler: Any, drop_last: bool, seed: int
) -> Order:
    if batch_sampler is not None:
        if batch_size != 1 or shuffle or sampler is not None or drop_last:
            raise ConfigurationError("batch_sampler excludes batch_size, shuffle, sampler and drop_last")
        return SampledOrder(batch_sampler, dataset, seed)
    if sampler is not None and shuffle:
        raise ConfigurationError("sampler excludes shuffle: it is what says the order")
    if batch_size is None and drop_last:
        raise ConfigurationError("batch_size=None takes single samples, and has no batch for drop_last to leave out")
    size = 1 if batch_size is None else batch_size
    if sampler is not None:
        return SampledOrder(BatchSampler(sampler, size, drop_last), dataset, seed)
    return PlainOrder(dataset, size, drop_last=drop_last, seed=seed, permutation=permutation if shuffle else None)


class DatasetSequence(Sequence):
    """Made by `from_dataset`. ``dataset`` is the caller's."""

    def __init__(
        self, dataset: Any, order: Order, collate_fn: Callable[[Any], Any] | None, *, single: bool = False
    ) -> None:
        self.dataset = dataset
        self._order = order
        self._collate_fn = collate_fn
        self._single = single

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Any:
        """The batch as `from_dataset` says. The epoch is the present item's; outside of an enqueuer it is 0."""
        chosen = self._order.samples(item_epoch(), index)
        samples = self._fetch(list(range(chosen.start, chosen.stop)) if isinstance(chosen, slice) else chosen)
        # In one expression, so that nothing here refers to the arrays when they are sent.
        return to_arrays(self._collate_fn(samples) if self._collate_fn is not None else samples)

    def _fetch(self, keys: list[Any]) -> Any:
        if self._single:
            return self.dataset[keys[0]]
        if getattr(self.dataset, "__getitems__", None):
            return self.dataset.__getitems__(keys)
        return [self.dataset[key] for key in keys]


def rank_shard(group: Any = None) -> tuple[int, int]:
    """``shard=`` for this process: (rank, world size) of ``torch.distributed``, or (0, 1) where that is not used.

    Every rank then gets other batches and the same number of them; with ``drop_last=True`` also the same number of
    samples. Raises RuntimeError if torchrun started this process and ``init_process_group()`` is still to come: without
    it all ranks would train on everything.
    """
    distributed = torch.distributed
    if distributed.is_available():
        if distributed.is_initialized():
            return distributed.get_rank(group), distributed.get_world_size(group)
        if distributed.is_torchelastic_launched():
            raise RuntimeError("call torch.distributed.init_process_group() before rank_shard()")
    return 0, 1


# ---------------------------------------------------------------- the enqueuer as a loader


def as_iterable(enqueuer: SequenceEnqueuer, *, pin_memory: bool = False, **start: Any) -> TensorStream:
    """The enqueuer as an ``IterableDataset`` of batches of tensors: each ``for`` loop over it is an epoch.

    Tensors lie on the memory of the arrays that arrived, which is theirs alone; with local *threads* it is whatever the
    Sequence returned. ``pin_memory=True`` makes torch's own pinned copy of each, and without an accelerator warns and
    does nothing, as ``DataLoader``.

    ``start`` are arguments of `SequenceEnqueuer.start` (``workers=``, ``max_queue_size=``): an enqueuer that does not
    run is then started by the first loop. A loop that is broken off is followed by one over a new epoch; for that the
    enqueuer is started again. (Give ``bind`` a fixed port: remote workers come back to it.)

    It can be wrapped as ``DataLoader(…, batch_size=None, num_workers=0)`` or torchdata's ``StatefulDataLoader``.
    """
    if pin_memory and not _has_accelerator():
        warnings.warn("pin_memory=True, but there is no accelerator: memory is not pinned", stacklevel=2)
        pin_memory = False
    return TensorStream(enqueuer, pin_memory, start)


def _has_accelerator() -> bool:
    # torch.accelerator came with PyTorch 2.6.
    accelerator = getattr(torch, "accelerator", torch.cuda)
    return bool(accelerator.is_available())


class TensorStream(EpochStream, IterableDataset):
    """Made by `as_iterable`; has ``len()``, ``epoch``, ``state_dict()`` and ``load_state_dict()``."""

    def __init__(self, enqueuer: SequenceEnqueuer, pin_memory: bool, start: dict[str, Any]) -> None:
        super().__init__(enqueuer, start)
        self._pin_memory = pin_memory

    def __iter__(self) -> Iterator[Any]:
        """One epoch. Raises RuntimeError in a ``DataLoader``'s worker process."""
        if get_worker_info() is not None:
            raise RuntimeError(_ONE_PROCESS)
        # Not a generator: it would hold a batch's arrays while the loop works with the tensors, or has dropped them.
        return map(partial(to_tensors, pin_memory=self._pin_memory), Pass(self, self._enqueuer))

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot be sent to another process: {_ONE_PROCESS}")
