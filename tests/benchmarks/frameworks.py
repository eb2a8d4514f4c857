"""How much of the ideal rate reaches each framework's training step: `python -m tests.benchmarks.frameworks [NAME…]`.

A pipeline that sleeps 20 ms a batch on 8 workers, ordered, `max_queue_size=64`: 400 batches/s at best. The loop is the
framework's own (`fit`, or a jitted step) on a model that takes next to no time. The rate is taken between the first
batch's step and the last one's: neither starting processes nor compiling is what is measured here. Each framework runs
in an interpreter of its own, and is left out where it is not installed.
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


@dataclass(frozen=True)
class Case:
    """``modules`` must be installed; ``variables`` are set in the environment before any of them is imported."""

    loop: Loop
    modules: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)


CASES = {
    "bare": Case(bare_loop, ()),
    "keras-jax": Case(keras_fit("keras"), ("keras", "jax"), {"KERAS_BACKEND": "jax"}),
    "keras-torch": Case(keras_fit("keras"), ("keras", "torch"), {"KERAS_BACKEND": "torch"}),
    "keras-tensorflow": Case(keras_fit("keras"), ("keras", "tensorflow"), {"KERAS_BACKEND": "tensorflow"}),
    "tf-keras": Case(keras_fit("tf_keras"), ("tf_keras",), {"TF_USE_LEGACY_KERAS": "1"}),
    "tf.data": Case(tf_data_loop, ("tensorflow",)),
}


def rate(loop: Loop, *, processes: bool) -> float:
    """Steps a second of one epoch, from the first on."""
    times: list[float] = []
    with SequenceEnqueuer(Sleeping(), processes, min_workers=WORKERS) as enq:
        enq.start(WORKERS, MAX_QUEUE_SIZE)
        # What has piled up while the step was compiled came for nothing.
        loop(enq, lambda: times.append(time.perf_counter()))
    assert len(times) == LENGTH
    behind = MAX_QUEUE_SIZE + WORKERS
    return (LENGTH - 1 - behind) / (times[-1] - times[behind])


def measure(name: str, runs: int, *, processes: bool) -> None:
    reached = statistics.median(rate(CASES[name].loop, processes=processes) for _ in range(runs))
    print(f"{name:20} {reached:>8.0f} {reached / IDEAL:>9.1%} {f'>= {BAR:.0%}':>7}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; all if none is given")
    parser.add_argument("--placement", choices=("threads", "processes"), default="processes")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        measure(arguments.names[0], arguments.runs, processes=arguments.placement == "processes")
        return
    print(
        f"{arguments.placement}, median of {arguments.runs} runs, {WORKERS} workers x {SECONDS * 1000:.0f} ms, ordered"
    )
    print(f"{'framework':20} {'steps/s':>8} {'of ideal':>9} {'bar':>7}", flush=True)
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
