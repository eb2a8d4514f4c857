"""How much of the ideal rate reaches each framework's training step: `python -m tests.benchmarks.frameworks [NAME…]`.

A pipeline that sleeps 20 ms a batch on 8 workers, ordered, `max_queue_size=64`: 400 batches/s at best. The loop is the
framework's own (`fit`, or a jitted step) on a model that takes next to no time. The rate is taken once the first step
was compiled and what had piled up meanwhile is used up: neither compiling nor starting processes is what is measured
here.

The bar is about the loader, so each run is followed by one in which the same loop has its batches from memory, by the
framework's own means, with no enqueuer at all. A loop that does not reach 400 steps/s even so is held to what it did
there ("of possible": of the smaller one of the two). "waited" is the part of the time in which the step had no batch.
Each framework runs in an interpreter of its own, and is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from itertools import repeat
from typing import Any

import numpy as np

from enqueuer import SequenceEnqueuer

WORKERS, SECONDS, LENGTH, MAX_QUEUE_SIZE = 8, 0.020, 1600, 64
IDEAL = WORKERS / SECONDS
# What piles up while the step is compiled.
BEHIND = MAX_QUEUE_SIZE + WORKERS
BAR = 0.95
BATCH = (np.zeros((8, 4), np.float32), np.zeros((8, 1), np.float32))
# One step a batch, for LENGTH batches: of a running enqueuer, or (None) always `BATCH`, by the framework's own means.
# Calls the other argument after each step.
Loop = Callable[[SequenceEnqueuer | None, Callable[[], None]], Any]


class Sleeping:
    """(8, 4) float32 and targets, after 20 ms."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(SECONDS)
        return np.full((8, 4), index, np.float32), np.zeros((8, 1), np.float32)


def bare_loop(enq: SequenceEnqueuer | None, stepped: Callable[[], None]) -> None:
    """What the others are to be compared with on a busy machine: taking, and nothing else."""
    for _ in repeat(BATCH, LENGTH) if enq is None else enq.epoch():
        stepped()


def dense_model(keras: Any, sequential: Any = None) -> Any:
    return (sequential or keras.Sequential)([keras.layers.Input((4,)), keras.layers.Dense(1)])


def keras_fit(name: str, make_model: Callable[[Any], Any] = dense_model) -> Loop:
    """`fit` of the Keras of this name."""

    def fit(enq: SequenceEnqueuer | None, stepped: Callable[[], None]) -> None:
        from enqueuer.adapters.keras import as_dataset

        keras = import_module(name)

        class Stepped(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                stepped()

        model = make_model(keras)
        model.compile(optimizer="sgd", loss="mse")
        dataset = keras_memory(keras) if enq is None else as_dataset(enq, keras)
        model.fit(dataset, verbose=0, callbacks=[Stepped()])

    return fit


def keras_memory(keras: Any) -> Any:
    """Keras' own dataset."""

    class Memory(keras.utils.Sequence):  # type: ignore[misc, name-defined]
        def __len__(self) -> int:
            return LENGTH

        def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
            return BATCH

    return Memory()


def model_with_a_step_in_torch(keras: Any) -> Any:
    """Keras' own step in PyTorch takes longer than 2.5 ms here, of whatever model. `fit` also takes a model's own step
    (Keras' guide "Customizing what happens in `fit()` with PyTorch"); all else is the same loop.
    """
    import torch

    class OwnStep(keras.Sequential):  # type: ignore[misc, name-defined]
        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            kernel, bias = (variable.value for variable in self.trainable_variables)
            loss = torch.nn.functional.mse_loss(x @ kernel + bias, y)
            loss.backward()
            with torch.no_grad():
                for weights in (kernel, bias):
                    weights -= 1e-9 * weights.grad
                    weights.grad = None
            return {"loss": loss}

    return dense_model(keras, OwnStep)


def tf_data_loop(enq: SequenceEnqueuer | None, stepped: Callable[[], None]) -> None:
    """A compiled step over a tf.data.Dataset."""
    import tensorflow as tf

    from enqueuer.adapters.tensorflow import as_dataset

    weights = tf.Variable(tf.zeros((4, 1)))

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((x @ weights - y) ** 2)
        weights.assign_sub(1e-9 * tape.gradient(loss, weights))

    dataset = tf.data.Dataset.from_tensors(BATCH).repeat(LENGTH) if enq is None else as_dataset(enq)
    for x, y in dataset.prefetch(2):
        step(x, y)
        stepped()


def torch_loop(enq: SequenceEnqueuer | None, stepped: Callable[[], None]) -> None:
    """The usual loop of PyTorch over an iterable of tensors."""
    import torch

    from enqueuer.adapters.torch import as_iterable

    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), 1e-9)
    for x, y in torch.utils.data.DataLoader([BATCH] * LENGTH, batch_size=None) if enq is None else as_iterable(enq):
        loss = torch.nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stepped()


def jax_loop(enq: SequenceEnqueuer | None, stepped: Callable[[], None]) -> None:
    """A jitted step over batches that are on the device already."""
    import jax
    import jax.numpy as jnp

    from enqueuer.adapters.jax import device_iterator

    @jax.jit
    def update(weights: Any, x: Any, y: Any) -> Any:
        return weights - 1e-9 * jax.grad(lambda w: jnp.mean((x @ w - y) ** 2))(weights)

    weights = jnp.zeros((4, 1))
    for x, y in map(jax.device_put, repeat(BATCH, LENGTH)) if enq is None else device_iterator(enq):
        weights = update(weights, x, y).block_until_ready()
        stepped()


@dataclass(frozen=True)
class Case:
    """``modules`` must be installed; ``variables`` are set in the environment before any of them is imported."""

    loop: Loop
    modules: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)


# On a few cores, torch's idle threads spin where the workers should run.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
CASES = {
    "bare": Case(bare_loop, ()),
    "keras-jax": Case(keras_fit("keras"), ("keras", "jax"), {"KERAS_BACKEND": "jax"}),
    "keras-torch": Case(keras_fit("keras"), ("keras", "torch"), {"KERAS_BACKEND": "torch", **ONE_THREAD}),
    "keras-torch-own-step": Case(
        keras_fit("keras", model_with_a_step_in_torch), ("keras", "torch"), {"KERAS_BACKEND": "torch", **ONE_THREAD}
    ),
    "keras-tensorflow": Case(keras_fit("keras"), ("keras", "tensorflow"), {"KERAS_BACKEND": "tensorflow"}),
    "tf-keras": Case(keras_fit("tf_keras"), ("tf_keras",), {"TF_USE_LEGACY_KERAS": "1"}),
    "tf.data": Case(tf_data_loop, ("tensorflow",)),
    "torch": Case(torch_loop, ("torch",), ONE_THREAD),
    "jax": Case(jax_loop, ("jax",)),
}


@dataclass(frozen=True)
class Measured:
    """Of one epoch: ``rate`` in steps a second, ``waited`` as a part of the time, in [0, 1]."""

    rate: float
    waited: float


def measure(loop: Loop, *, processes: bool) -> Measured:
    """One epoch, from where what piled up while the step was compiled has been used up."""
    times: list[float] = []
    with SequenceEnqueuer(Sleeping(), processes, min_workers=WORKERS) as enq:
        enq.start(WORKERS, MAX_QUEUE_SIZE)
        waited = 0.0

        def stepped() -> None:
            nonlocal waited
            times.append(time.perf_counter())
            if len(times) == BEHIND + 1:
                waited = enq.stats().wait_seconds

        loop(enq, stepped)
        waited = enq.stats().wait_seconds - waited
    return Measured(rate_of(times), waited / (times[-1] - times[BEHIND]))


def rate_from_memory(loop: Loop) -> float:
    """Steps a second of the same epoch without an enqueuer."""
    times: list[float] = []
    loop(None, lambda: times.append(time.perf_counter()))
    return rate_of(times)


def rate_of(times: list[float]) -> float:
    assert len(times) == LENGTH
    return (LENGTH - 1 - BEHIND) / (times[-1] - times[BEHIND])


def report(name: str, runs: int, *, processes: bool) -> None:
    loop = CASES[name].loop
    # In turn: a machine that is slow for a while is so for both.
    measured, from_memory = [], []
    for _ in range(runs):
        measured.append(measure(loop, processes=processes))
        from_memory.append(rate_from_memory(loop))
    reached = statistics.median(run.rate for run in measured)
    waited = statistics.median(run.waited for run in measured)
    memory = statistics.median(from_memory)
    of_possible = reached / min(IDEAL, memory)
    print(
        f"{name:20} {reached:>8.0f} {reached / IDEAL:>9.1%} {memory:>12.0f} {of_possible:>12.1%} {f'>= {BAR:.0%}':>7} "
        f"{waited:>7.0%}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; all if none is given")
    parser.add_argument("--placement", choices=("threads", "processes"), default="processes")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.names).difference(CASES):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(CASES)}")
    if arguments.here:
        report(arguments.names[0], arguments.runs, processes=arguments.placement == "processes")
        return
    print(
        f"{arguments.placement}, median of {arguments.runs} runs, {WORKERS} workers x {SECONDS * 1000:.0f} ms, ordered"
    )
    print(
        f"{'framework':20} {'steps/s':>8} {'of ideal':>9} {'from memory':>12} {'of possible':>12} {'bar':>7} "
        f"{'waited':>7}",
        flush=True,
    )
    for name in arguments.names or CASES:
        case = CASES[name]
        if any(find_spec(module) is None for module in case.modules):
            print(f"{name:20} not installed")
            continue
        command = [sys.executable, "-m", "tests.benchmarks.frameworks", name, "--here"]
        command += ["--placement", arguments.placement, "--runs", str(arguments.runs)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", **case.variables}
        subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
