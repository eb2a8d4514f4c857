"""How much of the ideal rate reaches each framework's training step: `python -m tests.benchmarks.frameworks [NAME…]`.

A pipeline that sleeps 20 ms a batch on 8 workers, ordered, `max_queue_size=64`: 400 batches/s at best. The loop is the
framework's own (`fit`, or a jitted step) on a model that takes next to no time. The rate is taken once the first step
was compiled and what had piled up meanwhile is used up: neither compiling nor starting processes is what is measured
here. "waited" is the part of that time in which the step had no batch; where it is nothing, the framework's own loop is
what took the time. Each framework runs in an interpreter of its own, and is left out where it is not installed.
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
from typing import Any

import numpy as np

from enqueuer import SequenceEnqueuer

WORKERS, SECONDS, LENGTH, MAX_QUEUE_SIZE = 8, 0.020, 1600, 64
IDEAL = WORKERS / SECONDS
BAR = 0.95
# One step a batch; called with a running enqueuer, calls the other argument after each step.
Loop = Callable[[SequenceEnqueuer, Callable[[], None]], Any]


class Sleeping:
    """(8, 4) float32 and targets, after 20 ms."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(SECONDS)
        return np.full((8, 4), index, np.float32), np.zeros((8, 1), np.float32)


def bare_loop(enq: SequenceEnqueuer, stepped: Callable[[], None]) -> None:
    """What the others are to be compared with on a busy machine: taking, and nothing else."""
    for _ in enq.epoch():
        stepped()


def keras_fit(name: str) -> Loop:
    """`fit` of the Keras of this name."""

    def fit(enq: SequenceEnqueuer, stepped: Callable[[], None]) -> None:
        from enqueuer.adapters.keras import as_dataset

        keras = import_module(name)

        class Stepped(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                stepped()

        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
        model.compile(optimizer="sgd", loss="mse")
        model.fit(as_dataset(enq, keras), verbose=0, callbacks=[Stepped()])

    return fit


def tf_data_loop(enq: SequenceEnqueuer, stepped: Callable[[], None]) -> None:
    """A compiled step over a tf.data.Dataset."""
    import tensorflow as tf

    from enqueuer.adapters.tensorflow import as_dataset

    weights = tf.Variable(tf.zeros((4, 1)))

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((x @ weights - y) ** 2)
        weights.assign_sub(1e-9 * tape.gradient(loss, weights))

    for x, y in as_dataset(enq).prefetch(2):
        step(x, y)
        stepped()


def torch_loop(enq: SequenceEnqueuer, stepped: Callable[[], None]) -> None:
    """The usual loop of PyTorch over an iterable of tensors."""
    import torch

    from enqueuer.adapters.torch import as_iterable

    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), 1e-9)
    for x, y in as_iterable(enq):
        loss = torch.nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stepped()


def jax_loop(enq: SequenceEnqueuer, stepped: Callable[[], None]) -> None:
    """A jitted step over batches that are on the device already."""
    import jax
    import jax.numpy as jnp

    from enqueuer.adapters.jax import device_iterator

    @jax.jit
    def update(weights: Any, x: Any, y: Any) -> Any:
        return weights - 1e-9 * jax.grad(lambda w: jnp.mean((x @ w - y) ** 2))(weights)

    weights = jnp.zeros((4, 1))
    for x, y in device_iterator(enq):
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
    behind = MAX_QUEUE_SIZE + WORKERS
    times: list[float] = []
    with SequenceEnqueuer(Sleeping(), processes, min_workers=WORKERS) as enq:
        enq.start(WORKERS, MAX_QUEUE_SIZE)
        waited = 0.0

        def stepped() -> None:
            nonlocal waited
            times.append(time.perf_counter())
            if len(times) == behind + 1:
                waited = enq.stats().wait_seconds

        loop(enq, stepped)
        waited = enq.stats().wait_seconds - waited
    assert len(times) == LENGTH
    elapsed = times[-1] - times[behind]
    return Measured((LENGTH - 1 - behind) / elapsed, waited / elapsed)


def report(name: str, runs: int, *, processes: bool) -> None:
    measured = [measure(CASES[name].loop, processes=processes) for _ in range(runs)]
    reached = statistics.median(run.rate for run in measured)
    waited = statistics.median(run.waited for run in measured)
    print(f"{name:20} {reached:>8.0f} {reached / IDEAL:>9.1%} {f'>= {BAR:.0%}':>7} {waited:>7.0%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; all if none is given")
    parser.add_argument("--placement", choices=("threads", "processes"), default="processes")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        report(arguments.names[0], arguments.runs, processes=arguments.placement == "processes")
        return
    print(
        f"{arguments.placement}, median of {arguments.runs} runs, {WORKERS} workers x {SECONDS * 1000:.0f} ms, ordered"
    )
    print(f"{'framework':20} {'steps/s':>8} {'of ideal':>9} {'bar':>7} {'waited':>7}", flush=True)
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
