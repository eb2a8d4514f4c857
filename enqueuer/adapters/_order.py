"""The order of an epoch: which samples each batch holds, as a function of the epoch's number.

Each worker works the order out for itself: nothing is sent at an epoch's end, and the next epoch is computed ahead.
"""

from __future__ import annotations

import operator
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from enqueuer.errors import ConfigurationError


class Order(ABC):
    """The batches of an epoch, by index."""

    @abstractmethod
    def __len__(self) -> int:
        """Batches in an epoch."""

    @abstractmethod
    def samples(self, epoch: int, index: int) -> Any:
        """The keys to ask the dataset for: a list, or a slice."""


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
        if not hasattr(seed, "__index__") or not 0 <= operator.index(seed) < 2**63:
            raise ConfigurationError(f"seed must be an integer from 0 to 2**63 - 1, not {seed!r}")
        self._dataset = dataset
        self._batch_size = operator.index(batch_size)
        self._drop_last = drop_last
        self._seed = operator.index(seed)
        self._permutation = permutation
        self._permuted = EpochMemo()

    def __len__(self) -> int:
        full, rest = divmod(len(self._dataset), self._batch_size)
        return full + bool(rest and not self._drop_last)

    def samples(self, epoch: int, index: int) -> Any:
        length = len(self._dataset)
        chosen = slice(index * self._batch_size, min((index + 1) * self._batch_size, length))
        permutation = self._permutation
        if permutation is None:
            return chosen
        permuted = self._permuted.get(epoch, lambda: permutation(length, self._seed, epoch))
        return permuted[chosen].tolist()


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
