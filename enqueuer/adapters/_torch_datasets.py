"""A map-style dataset as a Sequence of batches, in the trainer and in each worker.

What a ``DataLoader`` does for a dataset in its worker processes happens here: ``get_worker_info()`` names the worker,
its dataset and the seed of the batch, and ``worker_init_fn`` sets each copy up before its first sample. The dataset is
told the epoch before its first sample.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data._utils import worker as torch_worker

from enqueuer.adapters._order import Order, OrderedSource
from enqueuer.adapters._torch_arrays import to_arrays
from enqueuer.adapters._torch_states import state_from_json, state_to_json
from enqueuer.compute.context import item_epoch, item_seed, worker_count, worker_info
from enqueuer.compute.seeding import BUILD, seeded_globals
from enqueuer.compute.sequence_checks import optional_method


class DatasetSequence(OrderedSource):
    """The batches of a dataset, made by `from_dataset`. ``dataset`` is the caller's object."""

    def __init__(
        self,
        dataset: Any,
        order: Order,
        collate_fn: Callable[[Any], Any] | None,
        *,
        single: bool = False,
        worker_init_fn: Callable[[int], Any] | None = None,
    ) -> None:
        self.dataset = dataset
        self._order = order
        self._collate_fn = collate_fn
        self._single = single
        self._worker_init_fn = worker_init_fn
        self._epoch = ToldEpoch(dataset)
        self._is_set_up = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_is_set_up": False}

    def __getitem__(self, index: int) -> Any:
        """Batch ``index`` of the epoch that is being computed; outside of an enqueuer, of epoch 0."""
        if not self._is_set_up:
            self._set_up()
        epoch = item_epoch()
        self._epoch.tell(epoch)
        chosen = self._order.samples(epoch, index)
        samples = self._fetch(list(range(chosen.start, chosen.stop)) if isinstance(chosen, slice) else chosen)
        # One expression: no local name here keeps the arrays when they are sent.
        return to_arrays(self._collate_fn(samples) if self._collate_fn is not None else samples)

    def _fetch(self, keys: list[Any]) -> Any:
        if self._single:
            return self.dataset[keys[0]]
        if getattr(self.dataset, "__getitems__", None):
            return self.dataset.__getitems__(keys)
        return [self.dataset[key] for key in keys]

    def _set_up(self) -> None:
        self._is_set_up = True
        info = worker_info()
        # Local threads share the trainer's dataset, and its process is no worker: as with num_workers=0.
        if info is None or threading.current_thread() is not threading.main_thread():
            return
        count = max(info.number + 1, worker_count())
        torch_worker._worker_info = _WorkerInfo(id=info.number, num_workers=count, seed=0, dataset=self.dataset)
        if self._worker_init_fn is not None:
            self._worker_init_fn(info.number)

    # ------------------------------------------------------------ the dataset's own state

    def state_dict(self) -> Any:
        """The trainer's dataset's own state; None if it keeps none."""
        methods = [optional_method(self.dataset, name) for name in ("state_dict", "load_state_dict")]
        return state_to_json(methods[0]()) if all(methods) and methods[0] is not None else None

    def load_state_dict(self, state: Any) -> None:
        """Bring the trainer's dataset to this state."""
        load = optional_method(self.dataset, "load_state_dict")
        if load is not None:
            load(state_from_json(state))


class _WorkerInfo(torch_worker.WorkerInfo):
    """``seed`` is torch's for the present batch, as a ``DataLoader``'s worker has torch's for the present epoch.

    With one seed for all batches, samples that are drawn from it would be the same in each epoch.
    """

    @property
    def seed(self) -> int:
        return int(torch.initial_seed())

    @seed.setter
    def seed(self, value: int) -> None:
        """Drop what the constructor sets."""


class ToldEpoch:
    """Tells a dataset with ``set_epoch`` the epoch of its samples, on each of its copies.

    A training that tells its own dataset knows better: its numbers may begin elsewhere. Then the dataset is left as it
    is told, and each copy is made after that. It is noticed by the integers among the dataset's attributes with "epoch"
    in their names.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._lock = threading.Lock()
        self._epoch: int | None = None
        self._marks = _epoch_marks(dataset)
        self._is_told_by_trainer = any(self._marks.get(name, 0) > 0 for name in TOLD_NAMES)

    def __getstate__(self) -> dict[str, Any]:
        told = self._is_told_by_trainer or _epoch_marks(self._dataset) != self._marks
        return {"_dataset": self._dataset, "_is_told_by_trainer": told}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_dataset"])  # type: ignore[misc]
        self._is_told_by_trainer = state["_is_told_by_trainer"]

    def tell(self, epoch: int) -> None:
        """Tell the dataset, unless it knows, or has no ``set_epoch``."""
        if epoch == self._epoch or self._is_told_by_trainer:
            return
        with self._lock:
            set_epoch = optional_method(self._dataset, "set_epoch")
            self._is_told_by_trainer = _epoch_marks(self._dataset) != self._marks
            if set_epoch is not None and epoch != self._epoch and not self._is_told_by_trainer:
                # The call may draw something, which must be the same in every copy.
                with seeded_globals(item_seed(), epoch, BUILD):
                    set_epoch(epoch)
                self._marks = _epoch_marks(self._dataset)
            self._epoch = epoch


# Attributes that are not 0 from the beginning have been told.
TOLD_NAMES = ("epoch", "_epoch")


def _epoch_marks(dataset: Any) -> dict[str, int]:
    attributes = getattr(dataset, "__dict__", {})
    return {name: value for name, value in attributes.items() if "epoch" in name and type(value) is int}
