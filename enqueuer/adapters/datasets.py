"""Hugging Face: a ``datasets.Dataset`` as a Sequence of batches, read from Arrow a batch at a time.

Each worker maps the dataset's Arrow files, and the trainer's local processes share one copy of a table in memory:
nothing is copied for each worker. Neither torch nor any other framework is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from enqueuer.adapters._frameworks import raise_for_framework

try:
    import datasets
except ModuleNotFoundError as error:
    raise_for_framework(error)
    raise

from enqueuer.adapters._order import Order, OrderedSource, PlainOrder
from enqueuer.compute.context import item_epoch
from enqueuer.errors import with_article

__all__ = ["DatasetSequence", "from_dataset"]

# The formats that give dicts of columns. Tables and data frames need a collate_fn to take them apart.
_FORMATS = frozenset({"numpy", "torch", "tensorflow", "jax", "python", "custom"})


def from_dataset(
    dataset: datasets.Dataset,
    batch_size: int,
    *,
    shuffle: bool = False,
    drop_last: bool = False,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    seed: int = 0,
) -> DatasetSequence:
    """The dataset's rows in batches: dicts of columns, each a NumPy array of ``batch_size`` values.

    Without a format the columns are those of ``with_format("numpy")``. A format that was set (``set_format`` with its
    columns, ``set_transform``, ``with_transform``) is applied to whole batches, and its values, tensors too, become
    NumPy arrays; values of unequal shapes, text and images remain lists. ``collate_fn`` gets the batch's formatted rows
    as a list of dicts, as in a ``DataLoader``.

    The order of an epoch depends on its number and on ``seed``. This seed is not the enqueuer's, and must be the same
    on all ranks. Without shuffling, batches are contiguous slices, which Arrow reads fastest; ``shuffle=True`` permutes
    rows. For remote workers put the call, and ``load_from_disk``, into a function of a module that they have, and name
    it with `SequenceSpec`.

    Raises TypeError for a streaming (iterable) dataset and for a format of tables without a ``collate_fn``;
    ConfigurationError for an invalid ``batch_size`` or ``seed``.
    """
    if not isinstance(dataset, datasets.Dataset):
        kind = with_article(type(dataset).__qualname__)
        raise TypeError(
            f"{kind} has no rows by index: only a datasets.Dataset can be computed on any "
            "worker and exactly once (not a streaming one, and of a DatasetDict one of its splits)"
        )
    kind = dataset.format["type"]
    if collate_fn is None:
        if kind is None:
            dataset = dataset.with_format("numpy")
        elif kind not in _FORMATS:
            raise TypeError(f"batches of the format {kind!r} cannot be sent: give a collate_fn that makes arrays")
    order = PlainOrder(
        dataset, batch_size, drop_last=drop_last, seed=seed, permutation=_permutation if shuffle else None
    )
    return DatasetSequence(dataset, order, collate_fn)


class DatasetSequence(OrderedSource):
    """The batches of a dataset, made by `from_dataset`. ``dataset`` is the formatted dataset."""

    def __init__(self, dataset: datasets.Dataset, order: Order, collate_fn: Callable[[list[Any]], Any] | None) -> None:
        self.dataset = dataset
        self._order = order
        self._collate_fn = collate_fn

    def __getitem__(self, index: int) -> Any:
        """Batch ``index`` of the epoch that is being computed; outside of an enqueuer, of epoch 0."""
        chosen = self._order.samples(item_epoch(), index)
        if self._collate_fn is None:
            return _columns(self.dataset[chosen])
        keys = list(range(chosen.start, chosen.stop)) if isinstance(chosen, slice) else chosen
        return self._collate_fn(self.dataset.__getitems__(keys))


def _permutation(length: int, seed: int, epoch: int) -> Any:
    # By name: default_rng may change its algorithm one day.
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(length)


def _columns(batch: Any) -> Any:
    return {name: _column(values) for name, values in batch.items()} if isinstance(batch, Mapping) else _column(batch)


def _column(values: Any) -> Any:
    if not isinstance(values, list):
        return _array(values)
    rows = [_array(value) for value in values]
    first = rows[0] if rows else None
    if isinstance(first, np.ndarray | np.generic | bool | int | float) and all(
        type(row) is type(first) and np.shape(row) == np.shape(first) for row in rows
    ):
        return np.stack(rows) if isinstance(first, np.ndarray) else np.asarray(rows)
    return rows


def _array(value: Any) -> Any:
    """A tensor of any framework as a writable array, as every delivered array is; any other value unchanged."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if hasattr(value, "__array__") and not isinstance(value, np.generic):
        value = np.asarray(value)
        return value if value.flags.writeable else value.copy()
    return value
