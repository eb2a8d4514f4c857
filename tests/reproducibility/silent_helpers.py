"""A module of the user's with generators of its own, for `silent_shapes`."""

from __future__ import annotations

import random

import numpy as np

rng = np.random.default_rng()


class Jitter:
    def __init__(self) -> None:
        self.coin = random.Random()

    def __call__(self) -> float:
        return self.coin.random()


jitter = Jitter()


def noise() -> float:
    return float(rng.random())
