"""The items of one instance in a worker process: each under its own seeds, whichever worker computes it.

    every item        globals, fresh entropy and owned generators are seeded from (seed, epoch, index)
    the first item    of a fresh instance: under seeds common to all workers and indices; if it drew anything, it is
                      computed again under its own

The reason: many Sequences draw lazily and keep the result, such as an order of all samples made by the first
``__getitem__``. Under the item's own seeds each worker would keep another order. So a drawing Sequence pays one item
more for each fresh instance, and any other pays nothing. (The reverse is cheaper: own seeds first, and a new instance
only if something was kept. But it fails for values kept outside of the instance: in a module, a class, a cache.)
"""

from __future__ import annotations

import contextlib
import pickle
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from enqueuer.compute.context import item_rngs_count
from enqueuer.compute.entropy import Entropy, set_entropy
from enqueuer.compute.item import compute_item
from enqueuer.compute.owned_generators import OwnedGenerators
from enqueuer.compute.seeding import BUILD, FIRST, seed_globals, seeded_globals
from enqueuer.compute.sequence_checks import batch_count

# Functions that give a global generator's seed or state.
_READERS = (
    *(("random", "getstate"), ("numpy.random", "get_state")),
    *(("torch", "initial_seed"), ("torch.random", "initial_seed")),
    *(("torch", "get_rng_state"), ("torch.random", "get_rng_state")),
)

_chance = random.SystemRandom()


@dataclass(slots=True)
class Instance:
    """A worker's loaded instance of the Sequence, over all epochs in which it does not change.

    ``since`` is the first epoch of its present state, the same on all workers. It is fresh until its first item is
    computed, in any epoch. ``drawn_seed`` is the stream's seed under which that item drew, and may have kept a result;
    None: it drew nothing. ``keeps``: whether first items may keep what they draw; None: none was computed.
    """

    sequence: Any
    since: int = 0
    is_fresh: bool = True
    drawn_seed: int | None = None
    keeps: bool | None = None
    owned: OwnedGenerators = field(init=False)

    def __post_init__(self) -> None:
        self.owned = OwnedGenerators(self.sequence)

    def find_generators(self) -> OwnedGenerators:
        """Walk the instance again: its first item, or a hook, may have made generators."""
        self.owned = OwnedGenerators(self.sequence, self.owned)
        return self.owned

    def renew(self, since: int) -> None:
        """Note that a hook has brought the instance into a new state, perhaps with other generators."""
        self.since, self.is_fresh = since, True

    def length(self) -> int:
        """The Sequence's number of batches, by the user's ``__len__``. Raises the errors of `batch_count`."""
        with seeded_globals(0, 0, BUILD):
            return batch_count(self.sequence)

    def settle(self, seed: int) -> None:
        """Have a fresh instance keep what its first item keeps on other workers, before a hook changes it.

        The very first is computed a second time: it draws less than before if anything was kept.
        """
        if not self.is_fresh or self.keeps is False:
            return
        self.is_fresh = False
        draws = self._draws_of_first(seed)
        if draws is None:
            self.keeps = False
        else:
            self.drawn_seed = seed
            self.keeps = self.keeps or draws != self._draws_of_first(seed)

    def _draws_of_first(self, seed: int) -> object:
        """Compute an item as the first one of this state. Returns what it drew; None for nothing."""
        # An order may be dealt by ``len()`` already.
        length = self.length()
        watch = DrawWatch((seed, self.since, FIRST), self.owned)
        # Any item: one that ends this process is not met again by the next one.
        index = _chance.randrange(length)
        # Errors are told by the item's own computation.
        with seeded_globals(*watch.seeds), contextlib.suppress(Exception):
            watch.run(lambda: compute_item(self.sequence, index, seed=seed, epoch=self.since, rng_seeds=watch.seeds))
        return (watch.draws,) if self.has_drawn(watch) else None

    def has_drawn(self, watch: DrawWatch) -> bool:
        """Whether the first item drew anything, or made generators: these have the seeds common to all workers."""
        before = self.owned
        return not self.find_generators().has_same_objects(before) or watch.draws is not None


class WorkerItems:
    """Computes items of an instance in one epoch. Only the worker's compute thread uses it.

    ``on_repeat`` is called before an item is computed a second time.
    """

    def __init__(
        self, instance: Instance, *, seed: int, epoch: int, on_repeat: Callable[[], object] = lambda: None
    ) -> None:
        self.sequence = instance.sequence
        self._instance = instance
        self._seed = seed
        self._epoch = epoch
        self._on_repeat = on_repeat

    def compute(self, index: int, out: Any = None) -> Any:
        """``sequence[index]``, or ``sequence.getitem_into(index, out)``, with its exceptions."""
        if self._instance.is_fresh:
            self._instance.is_fresh = False
            return self._compute_first(index, out)
        seed, epoch = self._seed, self._epoch
        before = set_entropy(Entropy(seed_globals(seed, epoch, index)))
        try:
            if self._instance.owned:
                self._instance.owned.seed(seed, epoch, index)
            return compute_item(self.sequence, index, seed=seed, epoch=epoch, out=out)
        finally:
            set_entropy(before)

    def _compute_first(self, index: int, out: Any) -> Any:
        """Compute the item under seeds common to all workers, and again under its own if it drew anything."""
        watch = DrawWatch((self._seed, self._instance.since, FIRST), self._instance.owned)
        try:
            batch = watch.run(
                lambda: compute_item(
                    self.sequence, index, seed=self._seed, epoch=self._epoch, out=out, rng_seeds=watch.seeds
                )
            )
        except Exception:
            if not self._instance.has_drawn(watch):
                raise
        else:
            if not self._instance.has_drawn(watch):
                self._instance.keeps = False
                return batch
            del batch
        self._instance.drawn_seed = self._seed
        if self._instance.keeps is None:
            self._instance.keeps = True
        self._on_repeat()
        return self.compute(index, out)


class DrawWatch:
    """Runs a call under these seeds, and sees whether it drew from any seeded generator, or read a seed or a state.

    ``draws`` tells one amount of draws from another; None: none.
    """

    def __init__(self, seeds: tuple[int, int, int], owned: OwnedGenerators) -> None:
        self.seeds = seeds
        self.draws: object = None
        self._owned = owned

    def run(self, call: Callable[[], Any]) -> Any:
        """The call's result, or its exception."""
        entropy = Entropy(seed_globals(*self.seeds))
        self._owned.seed(*self.seeds)
        states, rngs_count = self._states(), item_rngs_count()
        before = set_entropy(entropy)
        try:
            with _watched_reads() as reads:
                return call()
        finally:
            set_entropy(before)
            counts = entropy.count, len(reads), item_rngs_count() - rngs_count
            states_after = self._states()
            if any(counts) or self._owned.has_opaque or states_after != states:
                self.draws = counts, states_after

    def _states(self) -> bytes:
        torch = getattr(sys.modules.get("torch"), "default_generator", None)
        torch_state = None if torch is None else torch.get_state().numpy().tobytes()
        numpy_state = np.random.get_state(legacy=False)
        return pickle.dumps((random.getstate(), numpy_state, torch_state, self._owned.states()))


@contextmanager
def _watched_reads() -> Iterator[list[str]]:
    """The calls of functions that give a global generator's seed or state.

    Code makes generators from the seed, or draws and then puts the state back (``torch.random.fork_rng``).
    """
    reads: list[str] = []

    def watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def read(*args: Any, **kwargs: Any) -> Any:
            reads.append(name)
            return original(*args, **kwargs)

        return read

    found = [(sys.modules.get(module), name) for module, name in _READERS]
    originals = [(module, name, getattr(module, name)) for module, name in found if hasattr(module, name)]
    for module, name, original in originals:
        setattr(module, name, watched(name, original))
    try:
        yield reads
    finally:
        for module, name, original in originals:
            setattr(module, name, original)
