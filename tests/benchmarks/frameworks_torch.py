"""Steps a second in PyTorch's and JAX's idiom: `python -m tests.benchmarks.frameworks_torch [plain|torch|jax]`.

A pipeline that sleeps 20 ms a batch on 8 local processes, a training step of a small model, ordered delivery. Ideal: 8
workers / 20 ms. The rate is taken from the first batch to the last: starting processes is not what is measured here.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from enqueuer import SequenceEnqueuer
from tests.adapters.plain_sources import Sleeping

WORKERS = 8
SECONDS = 0.020
QUEUE_SIZE = 64
BAR = 0.95


def plain_rate(batches_count: int) -> float:
    """Batches a second of the enqueuer alone: what the others are to be compared with on a busy machine."""
    return _rate(lambda enqueuer, **start: _started(enqueuer, start), lambda *_: None, batches_count)


def _started(enqueuer: SequenceEnqueuer, start: dict[str, int]) -> Iterator[Any]:
    enqueuer.start(**start)
    return enqueuer.epoch()


def torch_rate(batches_count: int) -> float:
    """Steps a second over `as_iterable`."""
    import torch

    from enqueuer.adapters.torch import as_iterable

    torch.set_num_threads(1)
    model = torch.nn.Linear(10, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def step(x: Any, y: Any) -> None:
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step(torch.zeros(32, 10), torch.zeros(32, dtype=torch.int64))  # imports what it imports at first use
    return _rate(as_iterable, step, batches_count)


def jax_rate(batches_count: int) -> float:
    """Steps a second over `device_iterator`."""
    import jax
    import jax.numpy as jnp

    from enqueuer.adapters.jax import device_iterator

    @jax.jit
    def update(weights: Any, x: Any, y: Any) -> Any:
        def loss(weights: Any) -> Any:
            return -jnp.mean(jax.nn.log_softmax(x @ weights)[jnp.arange(32), y])

        return weights - 0.01 * jax.grad(loss)(weights)

    weights = update(jnp.zeros((10, 2)), jnp.zeros((32, 10)), jnp.zeros(32, jnp.int32))

    def step(x: Any, y: Any) -> None:
        nonlocal weights
        weights = update(weights, x, y).block_until_ready()

    return _rate(device_iterator, step, batches_count)


def _rate(make_loader: Callable[..., Any], step: Callable[[Any, Any], None], batches_count: int) -> float:
    sequence = Sleeping(batches_count, SECONDS)
    with SequenceEnqueuer(sequence, use_multiprocessing=True, min_workers=WORKERS) as enqueuer:
        batches = iter(make_loader(enqueuer, workers=WORKERS, max_queue_size=QUEUE_SIZE))
        step(*next(batches))
        started = time.perf_counter()
        steps_count = 0
        for x, y in batches:
            step(x, y)
            steps_count += 1
        return steps_count / (time.perf_counter() - started)


RATES = {"plain": plain_rate, "torch": torch_rate, "jax": jax_rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", nargs="?", choices=tuple(RATES))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batches", type=int, default=1200)
    arguments = parser.parse_args()
    ideal = WORKERS / SECONDS
    for name, rate in RATES.items():
        if arguments.framework not in (None, name) or (name != "plain" and find_spec(name) is None):
            continue
        reached = statistics.median(rate(arguments.batches) for _ in range(arguments.runs))
        print(f"{name:6} {reached:6.0f} steps/s, {reached / ideal:6.1%} of {ideal:.0f} (bar: {BAR:.0%})", flush=True)


if __name__ == "__main__":
    main()
