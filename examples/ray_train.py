"""Ray Train with a fleet of workers on the same cluster: ``python examples/ray_train.py``.

Two ranks train together on the digits of `torch_digits`. Each has an enqueuer for its shard, and a `RayFleet` that
computes the batches on whatever CPUs of the cluster are free. On a cluster of one machine it needs five CPUs; it starts
one if `RAY_ADDRESS` names none. The accuracy on held-out digits is above 0.95.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import ray
import ray.train
import torch
from ray.train.torch import TorchTrainer, prepare_model

import torch_digits
from enqueuer import SequenceEnqueuer, SequenceSpec
from enqueuer.adapters.torch import as_iterable, rank_shard
from enqueuer.engines.ray import RayFleet

# Half as many steps an epoch as with one rank.
EPOCHS = 16
RANKS = 2


def train(_: dict[str, object]) -> None:
    """What each rank does. Ray calls it on each of them, on any node."""
    torch.manual_seed(0)
    model = prepare_model(torch_digits.make_model())
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    spec = SequenceSpec(torch_digits.TRAINING_BATCHES)
    with tempfile.TemporaryDirectory() as keys:
        # The rank's own keys: the fleet takes the token to its workers.
        subprocess.run([sys.executable, "-m", "enqueuer", "keygen", keys], check=True, stdout=subprocess.DEVNULL)
        key_file = f"{keys}/coordinator.key"
        with (
            SequenceEnqueuer(spec, bind="tcp://0.0.0.0:*", key_file=key_file, seed=0, shard=rank_shard()) as enq,
            RayFleet(enq, min_workers=1, max_workers=2),
        ):
            loader = as_iterable(enq, workers=0, max_queue_size=32)
            for epoch in range(EPOCHS):
                for images, labels in loader:
                    loss = torch.nn.functional.cross_entropy(model(images), labels)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                if epoch == 0:
                    print(enq.stats(), flush=True)
    if ray.train.get_context().get_world_rank() == 0:
        print(f"accuracy: {torch_digits.accuracy(model):.3f}", flush=True)


def main() -> None:
    # The workers import torch_digits from this directory, on each node.
    ray.init(runtime_env={"working_dir": str(Path(__file__).parent)})
    scaling = ray.train.ScalingConfig(num_workers=RANKS)
    TorchTrainer(train, scaling_config=scaling).fit()


if __name__ == "__main__":
    main()
