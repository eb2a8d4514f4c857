"""`Sequence`, an optional base class, and `SequenceSpec`, a Sequence by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from enqueuer.compute.sequence_checks import empty_hook
from enqueuer.compute.spec import SequenceSpec

__all__ = ["Sequence", "SequenceSpec"]


class Sequence(ABC):
    """Batches by index. This base class is optional: any object with ``__len__`` and ``__getitem__`` will do.

    A Sequence may have three more methods:

    - ``set_epoch(epoch)`` is called instead of replaying ``on_epoch_end`` on instances built from a `SequenceSpec`.
    - ``close()`` is called on a worker's instance when it is no longer needed.
    - ``getitem_into(index, out)`` saves a copy, for batches made of arrays only. ``out`` has the structure, shapes and
      dtypes of the last batch, not initialised; its large arrays are memory that the trainer reads. Fill all arrays
      and return None, or return another batch if its shapes differ, for instance ``self[index]``. Do not keep ``out``.
      Worker processes on the trainer's host call the method after a first ``__getitem__``; both must give the same
      batch. A Sequence that leaves batches out (see ``__getitem__``) must not have it, because None means a filled
      ``out``.
    """

    @abstractmethod
    def __len__(self) -> int:
        """The number of batches in an epoch. It is read again before each epoch."""

    @abstractmethod
    def __getitem__(self, index: int) -> Any:
        """The batch at ``index``, 0 ≤ index < len(self): any structure of arrays. None leaves the batch out."""

    # Not abstract, because most Sequences do nothing here.
    @empty_hook  # noqa: B027
    def on_epoch_end(self) -> None:
        """Called after each epoch, once in the trainer's process. Does nothing unless overridden."""

    def __iter__(self) -> Iterator[Any]:
        """Iterate over one epoch, computed in the calling thread."""
        for index in range(len(self)):
            yield self[index]
