"""A small image classifier in NumPy alone: one hidden layer, softmax cross-entropy, Adam."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from enqueuer.demo.dataset import Labels

Floats = npt.NDArray[np.float32]

# Adam's constants as in Kingma & Ba, "Adam: A Method for Stochastic Optimization" (2015), algorithm 1.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class Classifier:
    """Two dense layers, trained one batch at a time. The same seed and batches give the same weights."""

    def __init__(
        self, inputs: int, classes: int, *, hidden: int = 256, learning_rate: float = 1e-3, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        self._learning_rate = learning_rate
        self._weights: list[Floats] = [
            _he_normal(rng, inputs, hidden),
            np.zeros(hidden, np.float32),
            _he_normal(rng, hidden, classes),
            np.zeros(classes, np.float32),
        ]
        self._means = [np.zeros_like(weight) for weight in self._weights]
        self._squares = [np.zeros_like(weight) for weight in self._weights]
        self._steps_count = 0

    def step(self, x: Floats, y: Labels) -> float:
        """Train on one batch, ``x`` of shape (n, …) and ``y`` of shape (n,). Returns its mean loss before the step."""
        flat = x.reshape(len(x), -1)
        hidden, probabilities = self._forward(flat)
        picked = probabilities[np.arange(len(y)), y]
        loss = float(-np.log(np.maximum(picked, 1e-12)).mean())

        error = probabilities
        error[np.arange(len(y)), y] -= 1.0
        error /= len(y)
        hidden_error = (error @ self._weights[2].T) * (hidden > 0)
        self._adam([flat.T @ hidden_error, hidden_error.sum(0), hidden.T @ error, error.sum(0)])
        return loss

    @property
    def state(self) -> list[npt.NDArray[Any]]:
        """All arrays changed by training. A classifier with this state continues exactly as this one."""
        return [*self._weights, *self._means, *self._squares, np.array(self._steps_count)]

    @state.setter
    def state(self, state: list[npt.NDArray[Any]]) -> None:
        """Restore a state. Raises ValueError if it is from a classifier of another shape."""
        for mine, theirs in zip([*self._weights, *self._means, *self._squares], state[:-1], strict=True):
            mine[...] = theirs
        self._steps_count = int(state[-1])

    def predict(self, x: Floats) -> Labels:
        """The most likely class of each sample; shape (n,)."""
        return np.asarray(self._forward(x.reshape(len(x), -1))[1].argmax(1), dtype=np.int64)

    def accuracy(self, x: Floats, y: Labels) -> float:
        """The share of correctly predicted samples, 0.0 to 1.0."""
        return float((self.predict(x) == y).mean())

    def _forward(self, flat: Floats) -> tuple[Floats, Floats]:
        first, first_bias, second, second_bias = self._weights
        hidden = np.maximum(flat @ first + first_bias, 0)
        logits = hidden @ second + second_bias
        # Softmax is invariant to shifting a row; shifted by its maximum, exp() cannot overflow.
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return hidden, powers / powers.sum(1, keepdims=True)

    def _adam(self, gradients: list[Floats]) -> None:
        self._steps_count += 1
        rate = self._learning_rate * (1 - BETA_2**self._steps_count) ** 0.5 / (1 - BETA_1**self._steps_count)
        for weight, gradient, mean, square in zip(self._weights, gradients, self._means, self._squares, strict=True):
            mean += (1 - BETA_1) * (gradient - mean)
            square += (1 - BETA_2) * (gradient * gradient - square)
            weight -= rate * mean / (np.sqrt(square) + EPSILON)


def _he_normal(rng: np.random.Generator, inputs: int, outputs: int) -> Floats:
    """Random weights that keep the variance through a layer of rectifiers (He et al. 2015)."""
    weights = rng.standard_normal((inputs, outputs), dtype=np.float32)
    weights *= np.sqrt(2 / inputs)
    return weights
