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

from enqueuer.adapters._loops import NOT_GIVEN, EpochLoop, EpochLoops, NotGiven, StartArguments, start_arguments
from enqueuer.adapters._order import Order, PlainOrder
from enqueuer.adapters._torch_arrays import collate_into_arrays, to_arrays, to_tensors
from enqueuer.adapters._torch_sampling import SampledOrder, permutation
from enqueuer.compute.context import item_epoch
from enqueuer.errors import ConfigurationError
from enqueuer.options import QueueSize
from enqueuer.sequence import Sequence

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
) -> DatasetSequence:
    """A map-style ``Dataset`` as a Sequence of batches; the arguments are ``DataLoader``'s.

    The batches are those of a ``DataLoader`` with the same order, as NumPy arrays. ``default_collate`` or
    ``collate_fn`` makes them (tensors become arrays); ``batch_size=None`` gives single samples, not collated. A
    dataset's ``__getitems__`` is used if it has one.

    The order of an epoch depends on its number and on ``seed``. This seed is not the enqueuer's, and must be the same
    on all ranks, as ``DistributedSampler``'s. ``shuffle=True`` permutes the samples as ``DistributedSampler`` does (the
    enqueuer's own ``shuffle=True`` would permute whole batches). Samplers are told the epoch by ``set_epoch``, so do
    not call it; any other sampler is iterated once an epoch. Random numbers that the dataset draws in worker processes,
    from torch, NumPy and `random`, are the same on every run with the enqueuer's seed.

    For ``torch.distributed`` give the enqueuer ``shard=rank_shard()`` and leave ``DistributedSampler`` out. To keep the
    very samples of each rank, give that sampler as ``sampler=`` and leave ``shard`` out.
    For remote workers put the call into a function of a module that they have, and name it with `SequenceSpec`.

    Raises TypeError for an ``IterableDataset`` and samplers without ``len()``, ConfigurationError for arguments that
    exclude each other.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise TypeError(
            f"a {type(dataset).__qualname__} has no samples by index: only map-style datasets, with __getitem__ and "
            "__len__, can be computed on any worker and exactly once"
        )
    order = _make_order(dataset, batch_size, shuffle, sampler, batch_sampler, drop_last, seed)
    if collate_fn is None and (batch_size is not None or batch_sampler is not None):
        collate_fn = collate_into_arrays
    return DatasetSequence(dataset, order, collate_fn, single=batch_size is None and batch_sampler is None)


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


class DatasetSequence(Sequence):
    """The batches of a dataset, made by `from_dataset`. ``dataset`` is the caller's object."""

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
        """Batch ``index`` of the epoch that is being computed; outside of an enqueuer, of epoch 0."""
        chosen = self._order.samples(item_epoch(), index)
        samples = self._fetch(list(range(chosen.start, chosen.stop)) if isinstance(chosen, slice) else chosen)
        # One expression: no local name here keeps the arrays when they are sent.
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
    samples. Raises RuntimeError if torchrun started this process and ``init_process_group()`` was not called yet: all
    ranks would train on everything.
    """
    distributed = torch.distributed
    if distributed.is_available():
        if distributed.is_initialized():
            return distributed.get_rank(group), distributed.get_world_size(group)
        if distributed.is_torchelastic_launched():
            raise RuntimeError("call torch.distributed.init_process_group() before rank_shard()")
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

    A loop that is broken off is followed by one over a new epoch; the enqueuer is started again for it. (Give ``bind``
    a fixed port: remote workers come back to it.) The loader can be wrapped as
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
    """Made by `as_iterable`; has ``len()``, ``epoch``, ``state_dict()`` and ``load_state_dict()``."""

    def __init__(self, enqueuer: SequenceEnqueuer, pin_memory: bool, start: StartArguments) -> None:
        super().__init__(enqueuer, start=start)
        self._pin_memory = pin_memory

    def __iter__(self) -> Iterator[Any]:
        """One epoch. Raises RuntimeError in a ``DataLoader``'s worker process."""
        if get_worker_info() is not None:
            raise RuntimeError(_ONE_PROCESS)
        # A generator would hold a batch's arrays while the loop works with the tensors, or has dropped them.
        return map(partial(to_tensors, pin_memory=self._pin_memory), EpochLoop(self))

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot be sent to another process: {_ONE_PROCESS}")
