"""The order of a PyTorch sampler, drawn once an epoch in the trainer.

    the caller's sampler ──copy──► iterated once for each epoch ──► DrawnOrder ──► all workers

Only copies of the sampler are iterated, so an epoch can be drawn ahead, and drawn again after the training has changed
the sampler. Two kinds of samplers:

- beginning anew: of torch and without a generator. Each epoch is drawn from a new copy of the sampler.
- going on: any other may begin where its last iteration ended, also if it has ``set_epoch``. One copy is iterated epoch
  after epoch, and what the training changes in its own sampler between two epochs (weights, a list, a generator's
  state) is changed in the copy.
"""

from __future__ import annotations

import collections.abc
import copy
import hashlib
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from enqueuer.adapters._order import Order, read_seed
from enqueuer.adapters._torch_arrays import on_cpu
from enqueuer.adapters._torch_datasets import TOLD_NAMES
from enqueuer.compute.seeding import seeded_globals
from enqueuer.errors import ConfigurationError, with_article
from enqueuer.protocol.drawn_order import DrawnOrder
from enqueuer.protocol.object_pickler import ObjectPickler

# A batch sampler's len() may be an estimate; after so many more batches it counts as one without an end.
_BATCHES_LIMIT = 10_000
_FINGERPRINT_BYTES = 16
# Values of a sampler: to iterate over them changes nothing in them.
_CONTAINERS = (collections.abc.Sequence, collections.abc.Set, collections.abc.Mapping, np.ndarray, torch.Tensor)
# Lists of a sampler are looked through for samplers and their datasets up to this length.
_FEW = 100
# Orders of these epochs are kept, since one may be computed ahead: the newest, and the two before it.
_KEPT_EPOCHS = 2


def permutation(length: int, seed: int, epoch: int) -> Any:
    """The permutation of ``DistributedSampler``: a move from it to here changes no batch."""
    generator = torch.Generator(device="cpu")
    generator.manual_seed(seed + epoch)
    return torch.randperm(length, generator=generator, device="cpu").numpy()


class SampledOrder(Order):
    """The batches of a batch sampler: all of them, even against its ``len()``.

    Samplers are told the epoch by ``set_epoch``: the enqueuer's number, or, once the training has told them another
    one, the numbers that follow on that. Torch's own without a generator get one, seeded from ``seed`` and the epoch.
    Any other code of a sampler runs under global generators seeded from (``seed``, iteration).
    """

    def __init__(self, sampler: Any, dataset: Any, seed: int) -> None:
        try:
            len(sampler)
        except (TypeError, NotImplementedError):
            raise TypeError(
                f"{with_article(type(sampler).__qualname__)} has no len(), and a loader needs to say how long an epoch "
                "is about"
            ) from None
        self._sampler = sampler
        self._dataset = dataset
        self._seed = read_seed(seed)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._drawn: dict[int, tuple[bytes, DrawnOrder]] = {}
        self._newest: int | None = None
        self._is_worker = False
        # The epoch that the training has told its sampler, and the distance to the enqueuer's number at that time.
        self._told = 0
        self._ahead = 0
        # Copies of a sampler that goes on, before the iteration of an epoch, and the caller's as it was then.
        self._copies: dict[int, Any] = {}
        self._seen: list[_Part] = []

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("_sampler", "_dataset", "_seed")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __len__(self) -> int:
        if self._is_worker and self._newest is not None:
            return len(self._drawn[self._newest][1])
        return len(self._sampler)

    def describe(self) -> dict[str, Any]:
        parts = list(_sampler_chain(self._sampler))
        facts: dict[str, Any] = {"kind": "sampled", "class": " over ".join(type(part).__qualname__ for part in parts)}
        sizes = {name: getattr(self._sampler, name, None) for name in ("batch_size", "drop_last")}
        facts.update({name: value for name, value in sizes.items() if type(value) in (int, bool)})
        return {**facts, "seed": self._seed}

    def samples(self, epoch: int, index: int) -> Any:
        found = self._drawn.get(epoch)
        drawn = self.draw(epoch) if found is None else found[1]
        return drawn.batch(index)

    def follow(self, epoch: int, drawn: DrawnOrder) -> None:
        with self._lock:
            self._is_worker = True
            self._keep(epoch, b"", drawn)

    def draw(self, epoch: int) -> DrawnOrder:
        with self._lock:
            found = self._drawn.get(epoch)
            if found is not None and self._is_worker:
                return found[1]
            parts = self._look()
            self._note_told(epoch, parts)
            fingerprint = _fingerprint(parts)
            if found is not None and found[0] == fingerprint:
                return found[1]
            with on_cpu():
                drawn = self._draw(epoch, parts)
            self._keep(epoch, fingerprint, drawn)
            return drawn

    def renew(self, epoch: int) -> None:
        """Draw an epoch again that was drawn ahead, if its sampler has code of the user's.

        Such code may read what is no part of the sampler (losses in a module, a closure), which no fingerprint shows.
        """
        with self._lock:
            found = self._drawn.get(epoch)
            parts = self._look()
            if found is None or self._is_worker or all(part.is_known for part in parts):
                return
            with on_cpu():
                drawn = self._draw(epoch, parts)
            if drawn.digest != found[1].digest:
                self._keep(epoch, _fingerprint(parts), drawn)

    def set_random_seed(self, seed: int) -> None:
        """Do nothing. The method tells `OwnedGenerators` not to seed the sampler's generators for each item."""

    def _keep(self, epoch: int, fingerprint: bytes, drawn: DrawnOrder) -> None:
        # Replaced as a whole: other threads read it without the lock.
        kept = {number: entry for number, entry in self._drawn.items() if abs(epoch - number) <= _KEPT_EPOCHS}
        self._drawn = {**kept, epoch: (fingerprint, drawn)}
        self._newest = epoch

    # ------------------------------------------------------------ drawing

    def _draw(self, epoch: int, parts: list[_Part]) -> DrawnOrder:
        if all(part.begins_anew for part in parts):
            return self._iterate(self._copy(self._sampler), epoch)
        sampler = self._copy_before(epoch, parts)
        # The iteration changes the sampler, and this epoch may have to be drawn again.
        before = self._copy(sampler)
        drawn = self._iterate(sampler, epoch)
        earlier = {number: one for number, one in self._copies.items() if epoch - 1 <= number < epoch}
        self._copies = {**earlier, epoch: before, epoch + 1: sampler}
        return drawn

    def _copy_before(self, epoch: int, parts: list[_Part]) -> Any:
        """A copy of the caller's sampler as it is now, iterated for all epochs before this one."""
        before, self._seen = self._seen, parts
        known = [number for number in self._copies if number <= epoch]
        if not known or not _are_same_objects(before, parts):
            self._copies = {}
            number, sampler = 0, self._copy(self._sampler)
        else:
            number = max(known)
            changes = [part.changes_since(old) for part, old in zip(parts, before, strict=True)]
            if any(changes):
                for kept in self._copies.values():
                    _take_over(changes, kept, self._copy(self._sampler))
            sampler = self._copy(self._copies[number])
        for iteration in range(number, epoch):
            self._iterate(sampler, iteration)
        return sampler

    def _note_told(self, epoch: int, parts: list[_Part]) -> None:
        """A training that tells its own sampler knows better: its numbers may begin elsewhere."""
        told = next((number for part in parts if (number := part.told_epoch) is not None), 0)
        if told != self._told:
            self._told, self._ahead = told, told - epoch

    def _look(self) -> list[_Part]:
        shared = _datasets_of(self._sampler, self._dataset)
        return [_Part(part, shared) for part in _sampler_chain(self._sampler)]

    def _copy(self, sampler: Any) -> Any:
        shared = _datasets_of(sampler, self._dataset)
        try:
            return copy.deepcopy(sampler, dict(shared))
        except Exception as error:
            raise ConfigurationError(
                f"{_uncopyable(sampler, shared)} cannot be copied ({error}), and each epoch is drawn from a copy of "
                "the sampler: let __iter__ make it, or __deepcopy__ of the sampler share it"
            ) from error

    def _iterate(self, sampler: Any, epoch: int) -> DrawnOrder:
        parts = list(_sampler_chain(sampler))
        without_generator = [
            part for part in parts if _is_from_torch(part) and getattr(part, "generator", self) is None
        ]
        for part in parts:
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch + self._ahead)
        for part in without_generator:
            part.generator = torch.Generator(device="cpu")
            part.generator.manual_seed(self._seed + epoch)
        limit = 2 * len(sampler) + _BATCHES_LIMIT
        # Threads share the global generators with the training loop: seeded only if a sampler is not torch's own.
        with nullcontext() if all(map(_is_from_torch, parts)) else seeded_globals(self._seed, epoch):
            batches = list(islice(sampler, limit + 1))
        for part in without_generator:
            part.generator = None
        if len(batches) > limit:
            raise ConfigurationError(
                f"{type(sampler).__qualname__} says that it has {len(sampler)} batches, and gives more than {limit}: "
                "an epoch must have an end"
            )
        return DrawnOrder.of(batches)


# ---------------------------------------------------------------- what the training changes in its sampler


class _Part:
    """One sampler of the caller's chain as it is now, by digests of its attributes."""

    def __init__(self, sampler: Any, shared: dict[int, Any]) -> None:
        self.sampler = sampler
        self.is_container = isinstance(sampler, _CONTAINERS)
        following = _next_sampler(sampler)
        # The next part of the chain has a digest of its own; a container belongs to the part above it, too.
        own = {
            name: value
            for name, value in _attributes(sampler).items()
            if value is not following or isinstance(value, _CONTAINERS)
        }
        self.digests = {name: _digest(value, shared) for name, value in own.items()}
        if self.is_container:
            self.digests[""] = _digest(sampler, shared)

    @property
    def is_known(self) -> bool:
        """Whether its iteration depends on its attributes alone."""
        return self.is_container or _is_from_torch(self.sampler)

    @property
    def begins_anew(self) -> bool:
        """Whether each iteration begins at the same place."""
        return self.is_container or (_is_from_torch(self.sampler) and getattr(self.sampler, "generator", None) is None)

    @property
    def told_epoch(self) -> int | None:
        """The epoch that a sampler with ``set_epoch`` was told last, as far as it can be seen."""
        if not hasattr(self.sampler, "set_epoch"):
            return None
        own = _attributes(self.sampler)
        return next((own[name] for name in TOLD_NAMES if type(own.get(name)) is int), None)

    def fingerprint(self) -> bytes:
        return repr((None if self.is_container else id(self.sampler), self.digests)).encode()

    def changes_since(self, old: _Part) -> list[str]:
        """The attributes that were changed, set or deleted."""
        names = dict.fromkeys([*self.digests, *old.digests])
        return [name for name in names if name and self.digests.get(name) != old.digests.get(name)]


def _fingerprint(parts: list[_Part]) -> bytes:
    return b"".join(part.fingerprint() for part in parts)


def _are_same_objects(old: list[_Part], new: list[_Part]) -> bool:
    one, other = ([None if part.is_container else id(part.sampler) for part in parts] for parts in (old, new))
    return one == other


def _take_over(changes: list[list[str]], kept: Any, now: Any) -> None:
    """Set these attributes of each part of ``kept`` to what they are in ``now``, a copy of the caller's sampler."""
    for names, part, present in zip(changes, _sampler_chain(kept), list(_sampler_chain(now)), strict=False):
        values = _attributes(present)
        for name in names:
            if name in values:
                setattr(part, name, values[name])
            else:
                delattr(part, name)


def _attributes(sampler: Any) -> dict[str, Any]:
    slots = [
        name
        for owner in type(sampler).__mro__
        for name in _names(vars(owner).get("__slots__", ()))
        if name not in ("__dict__", "__weakref__") and hasattr(sampler, name)
    ]
    return {**{name: getattr(sampler, name) for name in slots}, **getattr(sampler, "__dict__", {})}


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _digest(value: Any, shared: dict[int, Any]) -> bytes:
    if isinstance(value, torch.Generator):
        state: bytes = value.get_state().numpy().tobytes()
        return state
    hashed = hashlib.blake2b(digest_size=_FINGERPRINT_BYTES)
    try:
        _DigestPickler(hashed, shared).dump(value)
    except Exception:
        return b"object %d" % id(value)  # it has no content that can be read
    digest: bytes = hashed.digest()
    return digest


class _DigestPickler(ObjectPickler):
    """Pickles into a hash. Of the datasets that a sampler refers to, only the length counts."""

    def __init__(self, hashed: Any, shared: dict[int, Any]) -> None:
        super().__init__(_HashStream(hashed))  # type: ignore[arg-type]
        self._datasets = shared

    def persistent_id(self, value: Any) -> Any:
        if id(value) not in self._datasets:
            return None
        return len(value) if hasattr(value, "__len__") else 0


class _HashStream:
    def __init__(self, hashed: Any) -> None:
        self._hashed = hashed

    def write(self, data: Any) -> int:
        self._hashed.update(data)
        return len(data)


# ---------------------------------------------------------------- chains of samplers


def _next_sampler(sampler: Any) -> Any:
    found = getattr(sampler, "sampler", None)
    return getattr(sampler, "batch_sampler", None) if found is None else found


def _sampler_chain(sampler: Any) -> Iterator[Any]:
    """The sampler, and the samplers below it that it draws from."""
    while sampler is not None:
        yield sampler
        following = None if isinstance(sampler, _CONTAINERS) else _next_sampler(sampler)
        # Samplers of one's own that are a BatchSampler may call their dataset the sampler.
        sampler = None if _is_dataset(following) else following


def _datasets_of(sampler: Any, dataset: Any) -> dict[int, Any]:
    """The datasets that a sampler refers to, by id: copies of it share them, since they may be large."""
    found = {id(dataset): dataset}
    waiting = list(_sampler_chain(sampler))
    while waiting:
        value = waiting.pop()
        if id(value) in found:
            continue
        if _is_dataset(value):
            found[id(value)] = value
        elif isinstance(value, list | tuple) and len(value) <= _FEW:
            waiting += value
        elif hasattr(value, "__iter__") and not isinstance(value, _CONTAINERS):
            # A sampler. Of these, torch's own ask for nothing but the length.
            own = _attributes(value)
            if _is_from_torch(value):
                found.update({id(own[name]): own[name] for name in ("data_source", "dataset") if name in own})
            waiting += own.values()
    return found


def _is_dataset(value: Any) -> bool:
    return isinstance(value, Dataset) or type(value).__module__.startswith("datasets.")


def _uncopyable(sampler: Any, shared: dict[int, Any]) -> str:
    """Names what keeps a sampler from being copied."""
    for part in _sampler_chain(sampler):
        for name, value in _attributes(part).items():
            if value is _next_sampler(part):
                continue
            try:
                copy.deepcopy(value, dict(shared))
            except Exception:
                return f"the {name} of {with_article(type(part).__qualname__)}"
    return with_article(type(sampler).__qualname__)


def _is_from_torch(part: Any) -> bool:
    return type(part).__module__.startswith("torch.utils.data.")
