"""Generators of torch, TensorFlow and Keras, known by the names of their classes: no framework is imported for them.

Each of Keras' random layers has a `SeedGenerator`; tf-keras' layers have TensorFlow's generator.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Keras keeps seeds as 32-bit integers, signed ones with torch.
_SEEDS_COUNT = 2**31


def is_frameworks(cls: type) -> bool:
    """Whether objects of this class are such generators."""
    return (cls.__module__, cls.__name__) in _KINDS


def seed_generator(generator: Any, key: bytes) -> None:
    """Seed the generator from these bytes, at least 8."""
    seed, _ = _KINDS[type(generator).__module__, type(generator).__name__]
    seed(generator, int.from_bytes(key[:8], "little"))


def read_state(generator: Any) -> bytes:
    """The generator's state, to see whether it was drawn from."""
    _, read = _KINDS[type(generator).__module__, type(generator).__name__]
    state: np.ndarray = read(generator)
    return state.tobytes()


def _seed_torch(generator: Any, number: int) -> None:
    generator.manual_seed(number >> 1)


def _read_torch(generator: Any) -> Any:
    return generator.get_state().numpy()


def _seed_tensorflow(generator: Any, number: int) -> None:
    generator.reset_from_seed(number >> 1)


def _read_tensorflow(generator: Any) -> Any:
    return generator.state.numpy()


def _seed_keras(generator: Any, number: int) -> None:
    # As in its constructor: the seed, and how many seeds were drawn.
    generator.state.assign([number % _SEEDS_COUNT, 0])


def _read_keras(generator: Any) -> Any:
    return generator.backend.convert_to_numpy(generator.state)


_KINDS = {
    ("torch._C", "Generator"): (_seed_torch, _read_torch),
    ("tensorflow.python.ops.stateful_random_ops", "Generator"): (_seed_tensorflow, _read_tensorflow),
    ("keras.src.random.seed_generator", "SeedGenerator"): (_seed_keras, _read_keras),
}
