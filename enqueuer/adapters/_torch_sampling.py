"""A PyTorch sampler's order of an epoch, drawn alike by every worker."""

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

# Samplers that have been iterated, by the order they belong to, with the epoch that their next iteration is: a worker
# gets a fresh copy of the order each epoch, and must not begin at epoch 0 each time.
_advanced: dict[str, tuple[int, Any]] = {}
_ADVANCED_COUNT = 4
_advanced_lock = threading.Lock()


def permutation(length: int, seed: int, epoch: int) -> Any:
    """``DistributedSampler``'s, so that a move from it to here changes no batch."""
    generator = torch.Generator()
    generator.manual_seed(seed + epoch)
    return torch.randperm(length, generator=generator).numpy()


class SampledOrder(Order):
    """The batches of a batch sampler.

    - Samplers that have ``set_epoch`` are told the epoch; torch's own that have no generator of theirs get one that is
      seeded from (``seed``, epoch). Either makes an epoch's order a matter of its number.
    - Any other may go on from where its last iteration left it, so epoch n is its iteration number n, counted from the
      state in which the sampler was given. It runs under global generators seeded from (``seed``, iteration).

    The caller's own sampler is never iterated: only copies of it are (without the ``dataset`` that it may refer to).
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

    def _draw(self, epoch: int) -> list[list[Any]]:
        parts = list(_chain(self._sampler))
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
        parts = list(_chain(sampler))
        for part in parts:
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)
            if _is_torchs(part) and getattr(part, "generator", self) is None:
                part.generator = torch.Generator()
                part.generator.manual_seed(self._seed + epoch)
        # Threads share the global generators with the training loop: not to be touched where nobody draws from them.
        with nullcontext() if all(map(_is_torchs, parts)) else seeded_globals(self._seed, epoch):
            batches = [list(batch) for batch in islice(sampler, len(sampler))]
        if len(batches) != len(self):
            raise RuntimeError(f"the batch sampler said that it has {len(self)} batches, and gave {len(batches)}")
        return batches


def _chain(sampler: Any) -> Iterator[Any]:
    """The sampler, and those that it draws from."""
    while sampler is not None:
        yield sampler
        sampler = getattr(sampler, "sampler", None) or getattr(sampler, "batch_sampler", None)


def _is_torchs(part: Any) -> bool:
    return type(part).__module__.startswith("torch.utils.data.")


def _is_stateless(part: Any) -> bool:
    return _is_torchs(part) and getattr(part, "generator", None) is None
