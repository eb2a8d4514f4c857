"""Other shapes of Sequences that draw, number or augment for themselves: each is right in one process.

A batch holds samples of an order (`Deals`), or draws (`Augments`). Both must be the same on any workers.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

from tests.reproducibility import silent_helpers
from tests.reproducibility.silent_helpers import jitter

LENGTH = 8


class Shape:
    """A pause has every worker take part."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> list[Any]:
        time.sleep(0.01)
        return self.batch(index)

    def batch(self, index: int) -> list[Any]:
        raise NotImplementedError


class Deals(Shape):
    """Base: two samples a batch, out of an order of names."""

    def __init__(self) -> None:
        self.order: list[Any] = [f"n{number}" for number in range(2 * LENGTH)]

    def batch(self, index: int) -> list[Any]:
        return list(self.order[2 * index : 2 * index + 2])


class PermutedByARandomState(Deals):
    def __init__(self) -> None:
        super().__init__()
        self.order = np.random.RandomState().permutation(self.order).tolist()


class SortedByDraws(Deals):
    def __init__(self) -> None:
        super().__init__()
        draws = iter(np.random.default_rng(np.random.SeedSequence()).random(len(self.order)))
        self.order.sort(key=lambda _: next(draws))


class DealtAfterEachEpoch(Deals):
    def on_epoch_end(self) -> None:
        self.order = random.Random().sample(self.order, len(self.order))


class SpawnsForEachEpoch(Deals):
    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng()

    def on_epoch_end(self) -> None:
        self.rng.spawn(1)[0].shuffle(self.order)


class DealtByAProperty(Deals):
    @cached_property
    def dealt(self) -> list[Any]:
        return random.sample(self.order, len(self.order))

    def batch(self, index: int) -> list[Any]:
        return self.dealt[2 * index : 2 * index + 2]


@lru_cache(maxsize=8)
def dealt(count: int) -> list[int]:
    return list(np.random.default_rng().permutation(count).tolist())


class DealtByAFunction(Deals):
    def batch(self, index: int) -> list[Any]:
        return [self.order[place] for place in dealt(len(self.order))[2 * index : 2 * index + 2]]


class DealtInAThread(Deals):
    """A helper of the first batch deals, with a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.dealt: list[Any] = []

    def batch(self, index: int) -> list[Any]:
        if not self.dealt:
            helper = threading.Thread(target=self.deal)
            helper.start()
            helper.join()
        return self.dealt[2 * index : 2 * index + 2]

    def deal(self) -> None:
        self.dealt = random.Random().sample(self.order, len(self.order))


class DealtWithTheLength(Deals):
    def __init__(self) -> None:
        super().__init__()
        self.is_dealt = False

    def __len__(self) -> int:
        if not self.is_dealt:
            random.shuffle(self.order)
            self.is_dealt = True
        return LENGTH


class OfAFrozensetOfBytes(Deals):
    def __init__(self) -> None:
        super().__init__()
        self.order = list(frozenset(str(name).encode() for name in self.order))


class OfASetOfTuples(Deals):
    def __init__(self) -> None:
        super().__init__()
        self.order = list({(str(name), "left"): None for name in {*self.order}})


class ByHashes(Deals):
    def __init__(self) -> None:
        super().__init__()
        self.order.sort(key=hash)


class Augments(Shape):
    """Base: what one of its generators draws, after as many draws as the index says."""

    def batch(self, index: int) -> list[Any]:
        return [self.draw() for _ in range(index + 1)]

    def draw(self) -> float:
        raise NotImplementedError


class WithSlots(Augments):
    __slots__ = ("coin",)

    def __init__(self) -> None:
        self.coin = random.Random()

    def draw(self) -> float:
        return self.coin.random()


@dataclass(slots=True, frozen=True)
class Stage:
    rng: np.random.Generator = field(default_factory=np.random.default_rng, hash=False)


class WithStages(Augments):
    """Stages deep in containers, beside many rows."""

    def __init__(self) -> None:
        self.rows = [[{"row": [number]} for number in range(1_500)] for _ in range(12)]
        self.stages = {"train": [frozenset([Stage()])]}

    def draw(self) -> float:
        (stage,) = self.stages["train"][0]
        return float(stage.rng.random())


class WithPartials(Augments):
    def __init__(self) -> None:
        self.draws: list[Any] = [partial(np.random.RandomState().uniform, 0, 1), random.Random().random]

    def draw(self) -> float:
        return float(sum(draw() for draw in self.draws))


class OfAThread(Augments):
    def __init__(self) -> None:
        self.local = threading.local()
        self.local.rng = np.random.default_rng()

    def draw(self) -> float:
        return float(self.local.rng.random())


def walk_at_random() -> Iterator[float]:
    coin = random.Random()
    while True:
        yield coin.random()


class OfAnIterator(Augments):
    def __init__(self) -> None:
        self.draws = walk_at_random()
        next(self.draws)

    def draw(self) -> float:
        return next(self.draws)


class OfTheClass(Augments):
    rng = np.random.default_rng()

    def draw(self) -> float:
        return float(self.rng.random())


class OfAnotherModule(Augments):
    def draw(self) -> float:
        return silent_helpers.noise() + jitter()


class SpawnsForEachDraw(Augments):
    def __init__(self) -> None:
        self.seeds = np.random.SeedSequence()
        self.rng = np.random.default_rng()

    def draw(self) -> float:
        return float(np.random.default_rng(self.seeds.spawn(1)[0]).random() + self.rng.spawn(1)[0].random())


CASES = (
    *(PermutedByARandomState, SortedByDraws, DealtAfterEachEpoch, SpawnsForEachEpoch, DealtByAProperty),
    *(DealtByAFunction, DealtInAThread, DealtWithTheLength),
    *(OfAFrozensetOfBytes, OfASetOfTuples, ByHashes),
    *(WithSlots, WithStages, WithPartials, OfAThread, OfAnIterator, OfTheClass, OfAnotherModule, SpawnsForEachDraw),
)


class Together(Shape):
    """All of them in one Sequence: a batch has a batch of each."""

    def __init__(self) -> None:
        self.shapes = [case() for case in CASES]

    def __len__(self) -> int:
        return min([len(shape) for shape in self.shapes])

    def batch(self, index: int) -> list[Any]:
        return [shape.batch(index) for shape in self.shapes]

    def on_epoch_end(self) -> None:
        for shape in self.shapes:
            if hasattr(shape, "on_epoch_end"):
                shape.on_epoch_end()
