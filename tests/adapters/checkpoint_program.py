"""A rank of a training with torch's distributed checkpoints: ``python -m tests.adapters.checkpoint_program FOLDER``.

Each rank has its own part of the batches. Trains two epochs and saves a checkpoint at some steps, then trains again
from each of them. Prints the samples and the last weights of all these trainings, and the error of an enqueuer whose
shard was asked for too early.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

from enqueuer import SequenceEnqueuer
from enqueuer.adapters.torch import as_iterable, from_dataset, rank_shard
from tests.adapters.torch_sources import Numbers

# An epoch has 8 batches of 3 samples, 4 of them for each rank.
SAVED_AT = (3, 4, 6)


def train(folder: Path, resumed_at: int | None) -> dict[str, Any]:
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    source = from_dataset(Numbers(25), batch_size=3, shuffle=True, drop_last=True, seed=7)
    key, steps = f"stream-{dist.get_rank()}", []
    with SequenceEnqueuer(source, seed=1, shard=rank_shard()) as enq:
        loader = as_iterable(enq, workers=1)
        if resumed_at is not None:
            checkpoint = {"model": model.state_dict(), key: ""}
            dcp.load(checkpoint, checkpoint_id=folder / str(resumed_at))
            model.load_state_dict(checkpoint["model"])
            loader.load_state_dict(json.loads(checkpoint[key]))
        while loader.epoch < 2:
            for x, y in loader:
                optimizer.zero_grad()
                torch.nn.functional.mse_loss(model(x)[:, 0], y.float()).backward()
                for parameter in model.parameters():
                    dist.all_reduce(parameter.grad, dist.ReduceOp.SUM)
                optimizer.step()
                steps.append(y.tolist())
                if resumed_at is None and len(steps) in SAVED_AT:
                    state = {"model": model.state_dict(), key: json.dumps(loader.state_dict())}
                    dcp.save(state, checkpoint_id=folder / str(len(steps)))
    return {"steps": steps, "weights": model.weight.flatten().tolist()}


def refusal(shard: tuple[int, int]) -> str:
    with SequenceEnqueuer(from_dataset(Numbers(25)), shard=shard) as enq:
        try:
            next(iter(as_iterable(enq, workers=1)))
        except RuntimeError as error:
            return str(error)
    return ""


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    early = rank_shard()
    dist.init_process_group("gloo")
    whole = train(folder, None)
    resumed = {step: train(folder, step) for step in SAVED_AT}
    print(json.dumps({"whole": whole, "resumed": resumed, "refusal": refusal(early)}))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
