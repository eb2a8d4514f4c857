"""One rank of a training under ``torch.distributed``: ``python -m tests.adapters.rank_program RANK STORE``.

Trains two epochs, averaging gradients over both ranks, and prints the samples of each step and the last weights.
"""

from __future__ import annotations

import json
import sys

import torch
import torch.distributed as dist

from enqueuer import SequenceEnqueuer
from enqueuer.adapters.torch import as_iterable, from_dataset, rank_shard
from tests.adapters.torch_sources import Numbers

WORLD_SIZE = 2


def main(rank: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD_SIZE)
    source = from_dataset(Numbers(25), batch_size=3, shuffle=True, drop_last=True, seed=7)
    model = torch.nn.Linear(5, 1)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    steps = []
    with SequenceEnqueuer(source, shard=rank_shard()) as enq:
        loader = as_iterable(enq, workers=2)
        for epoch in range(2):
            for x, y in loader:
                steps.append((epoch, y.tolist()))
                optimizer.zero_grad()
                torch.nn.functional.mse_loss(model(x)[:, 0], y.float()).backward()
                for parameter in model.parameters():
                    # Hangs if a rank has fewer batches than the other.
                    dist.all_reduce(parameter.grad, dist.ReduceOp.SUM)
                    parameter.grad /= WORLD_SIZE
                optimizer.step()
    print(json.dumps({"steps": steps, "weights": model.weight.tolist()}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
