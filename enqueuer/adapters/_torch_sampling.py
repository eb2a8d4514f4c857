"""The order of a PyTorch sampler, drawn alike by every worker."""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

import torch

from enqueuer.adapters._order import EpochMemo, Order
from enqueuer.compute.seeding import seeded_globals

# Iterated samplers by the order they belong to, each with the epoch of its next iteration. They outlive the order: a
# worker gets a fresh copy of it each epoch, and must not begin at epoch 0 each time.
_advanced: dict[str, tuple[int, Any]] = {}
_ADVANCED_COUNT = 4
_advanced_lock = threading.Lock()


def permutation(length: int, seed: int, epoch: int) -> Any:
    """The permutation of ``DistributedSampler``: a move from it to here changes no batch."""
    generator = torch.Generator()
    generator.manual_seed(seed + epoch)
    return torch.randperm(length, generator=generator).numpy()


class SampledOrder(Order):
    """The batches of a batch sampler.

    - Samplers with ``set_epoch`` are told the epoch; torch's own without a generator get one that is seeded from
      (``seed``, epoch). Either makes the order a function of the epoch's number.
    - Any other sampler may go on from where its last iteration ended, so epoch n is its iteration number n, counted
      from the state in which it was given. It runs under global generators seeded from (``seed``, iteration).

    Only copies of the caller's sampler are iterated. (They share the ``dataset`` that a sampler may refer to.)
    """

    def __init__(self, sampler: Any, dataset: Any, seed: int) -> None:
        try:
            len(sampler)
        except (TypeError, NotImplementedError):
            raise TypeError(
                f"a {type(sampler).__qualname__} has no len(), and an epoch needs to know its number of batches"
            ) from None
        self._sampler = sampler
        self._dataset = dataset
        self._seed = seed
        self._token = uuid.uuid4().hex
        self._lists = EpochMemo()

    def __len__(self) -> int:
        return len(self._sampler)

    def samples(self, epoch: int, index: int) -> Any:
        return self._lists.get(epoch, lambda: self._draw(epoch))[index]

    def set_random_seed(self, seed: int) -> None:
        """Do nothing. The method tells `OwnedGenerators` not to seed the sampler's generators for each item: the order
        of an epoch would depend on the item for which a worker drew it.
        """

    def _draw(self, epoch: int) -> list[list[Any]]:
        parts = list(_sampler_chain(self._sampler))
        if any(hasattr(part, "set_epoch") for part in parts) or all(map(_is_stateless, parts)):
            return self._iterate(self._copy(), epoch)
        with _advanced_lock:
            following, sampler = _advanced.pop(self._token, (0, None))
            if sampler is None or following > epoch:
                following, sampler = 0, self._copy()
            for iteration in range(following, epoch + 1):
                batches = self._iterate(sampler, iteration)
            _advanced[self._token] = (epoch + 1, sampler)
            while len(_advanced) > _ADVANCED_COUNT:
                del _advanced[next(iter(_advanced))]
            return batches

    def _copy(self) -> Any:
        return copy.deepcopy(self._sampler, {id(self._dataset): self._dataset})

    def _iterate(self, sampler: Any, epoch: int) -> list[list[Any]]:
        parts = list(_sampler_chain(sampler))
        for part in parts:
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)
            if _is_from_torch(part) and getattr(part, "generator", self) is None:
                part.generator = torch.Generator()
                part.generator.manual_seed(self._seed + epoch)
        # Threads share the global generators with the training loop: seeded only if a sampler is not torch's own.
        with nullcontext() if all(map(_is_from_torch, parts)) else seeded_globals(self._seed, epoch):
            batches = [list(batch) for batch in islice(sampler, len(sampler))]
        if len(batches) != len(self):
            raise RuntimeError(f"the batch sampler has {len(self)} batches, and gave {len(batches)}")
        return batches


def _sampler_chain(sampler: Any) -> Iterator[Any]:
    """The sampler, and the samplers below it that it draws from."""
    while sampler is not None:
        yield sampler
        sampler = getattr(sampler, "sampler", None) or getattr(sampler, "batch_sampler", None)


def _is_from_torch(part: Any) -> bool:
    return type(part).__module__.startswith("torch.utils.data.")


def _is_stateless(part: Any) -> bool:
    return _is_from_torch(part) and getattr(part, "generator", None) is None
