"""The order of an epoch: which samples each batch holds.

    PlainOrder    consecutive samples, or a permutation that is a function of (seed, epoch): every worker works it out
    a drawn one   what a sampler gives: drawn once an epoch in the trainer, and sent to the workers (`drawn_epochs`)

The kind, seed and sizes of an order belong to a resume state: the rest of an epoch makes sense in no other order.
"""

from __future__ import annotations

import operator
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from enqueuer.errors import ConfigurationError
from enqueuer.protocol.drawn_order import DrawnOrder
from enqueuer.sequence import Sequence


class Order(ABC):
    """The batches of an epoch, by index."""

    @abstractmethod
    def __len__(self) -> int:
        """Batches in an epoch."""

    @abstractmethod
    def samples(self, epoch: int, index: int) -> Any:
        """The keys to ask the dataset for: a list, or a slice."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Kind, seed and sizes, as JSON values."""

    def draw(self, epoch: int) -> DrawnOrder | None:
        """The order of this epoch, if it must be drawn in the trainer. Unless something has changed, the same again."""
        return None

    def renew(self, epoch: int) -> None:  # noqa: B027 - an order that is not drawn is always up to date
        """The epoch begins: draw it again if it may have changed since it was drawn."""

    def follow(self, epoch: int, drawn: DrawnOrder) -> None:  # noqa: B027 - an order that is not drawn has no use for it
        """Use for this epoch what the trainer has drawn."""


class OrderedSource(Sequence):
    """A Sequence whose batches are made of a dataset's samples in an order."""

    _order: Order

    def __len__(self) -> int:
        return len(self._order)

    def _enqueuer_draw_order(self, epoch: int) -> DrawnOrder | None:
        return self._order.draw(epoch)

    def _enqueuer_renew_order(self, epoch: int) -> None:
        self._order.renew(epoch)

    def _enqueuer_follow_order(self, epoch: int, drawn: DrawnOrder) -> None:
        self._order.follow(epoch, drawn)

    def _enqueuer_describe_order(self) -> dict[str, Any]:
        return self._order.describe()


class PlainOrder(Order):
    """Batches of consecutive samples, or of consecutive entries of a permutation of them.

    ``permutation(length, seed, epoch)`` gives an integer array; None: no shuffling, and batches are slices.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        drop_last: bool,
        seed: int,
        permutation: Callable[[int, int, int], Any] | None,
    ) -> None:
        if isinstance(batch_size, bool) or not hasattr(batch_size, "__index__") or operator.index(batch_size) < 1:
            raise ConfigurationError(f"batch_size must be an integer of at least 1, not {batch_size!r}")
        self._dataset = dataset
        self._batch_size = operator.index(batch_size)
        self._drop_last = bool(drop_last)
        self._seed = read_seed(seed)
        self._permutation = permutation
        self._permuted = EpochMemo()

    def __len__(self) -> int:
        full, rest = divmod(len(self._dataset), self._batch_size)
        return full + bool(rest and not self._drop_last)

    def describe(self) -> dict[str, Any]:
        shuffled = {"kind": "in sequence"} if self._permutation is None else {"kind": "shuffled", "seed": self._seed}
        sizes = {"samples": len(self._dataset), "batch_size": self._batch_size, "drop_last": self._drop_last}
        return {**shuffled, **sizes}

    def samples(self, epoch: int, index: int) -> Any:
        length = len(self._dataset)
        chosen = slice(index * self._batch_size, min((index + 1) * self._batch_size, length))
        permutation = self._permutation
        if permutation is None:
            return chosen
        permuted = self._permuted.get(epoch, lambda: permutation(length, self._seed, epoch))
        return permuted[chosen].tolist()


def read_seed(seed: Any) -> int:
    """The seed of an order. Raises ConfigurationError for anything else."""
    if not hasattr(seed, "__index__") or not 0 <= operator.index(seed) < 2**63:
        raise ConfigurationError(f"seed must be an integer from 0 to 2**63 - 1, not {seed!r}")
    return operator.index(seed)


class EpochMemo:
    """Values worked out for an epoch and for the one before it, since threads of one worker may be in both at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[int, Any] = {}

    def get(self, epoch: int, make: Callable[[], Any]) -> Any:
        values = self._values
        if epoch not in values:
            with self._lock:
                values = self._values
                if epoch not in values:
                    kept = {number: value for number, value in values.items() if abs(number - epoch) == 1}
                    # Replaced as a whole: other threads read it without the lock.
                    values = self._values = {**kept, epoch: make()}
        return values[epoch]

    def __reduce__(self) -> tuple[Any, ...]:
        return EpochMemo, ()
