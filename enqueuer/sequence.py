"""The base class for those who have no Keras, and the way to name a Sequence instead of making one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from enqueuer.compute.sequence_checks import empty_hook
from enqueuer.compute.spec import SequenceSpec

__all__ = ["Sequence", "SequenceSpec"]


class Sequence(ABC):
    """Batches by index. A base class is not needed: any object with ``__len__`` and ``__getitem__`` will do.

    A Sequence may also have ``set_epoch(epoch)`` (called instead of replaying ``on_epoch_end`` where it was built from
    a `SequenceSpec`) and ``close()`` (called on a worker's instance when it is given up).

    And ``getitem_into(index, out)``, for batches that are nothing but arrays: ``out`` looks like the last batch
    (structure, shapes, dtypes), not initialised, and its large arrays are memory that the trainer reads. Fill all of
    them and return None; or return another batch, for instance ``self[index]``, where its shapes are others. Since None
    says that ``out`` is filled, a Sequence that leaves batches out (see ``__getitem__``) must not have this method. Do
    not keep ``out``. Worker processes on the trainer's host call it, after a first ``__getitem__``; both must give the
    same batch.
    """

    @abstractmethod
    def __len__(self) -> int:
        """The number of batches in an epoch, read anew before each."""

    @abstractmethod
    def __getitem__(self, index: int) -> Any:
        """The batch at ``index``, 0 ≤ index < len(self); any structure of arrays. None is counted but not delivered."""

    # Empty and yet not abstract: most have nothing to do here.
    @empty_hook  # noqa: B027
    def on_epoch_end(self) -> None:
        """Called once after each epoch, in the trainer's process. Does nothing unless overridden."""

    def __iter__(self) -> Iterator[Any]:
        """One epoch, computed here and now."""
        for index in range(len(self)):
            yield self[index]
