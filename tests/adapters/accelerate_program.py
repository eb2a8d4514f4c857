"""A rank of a training with Accelerate: ``python -m tests.adapters.accelerate_program HOW``.

HOW is "dealt", by Accelerate, from a stateful loader over one stream, or "own": each rank's own shard. Trains two
epochs and saves a state at some steps, then trains again from each of them. Prints the samples of all these steps.
"""

from __future__ import annotations

import copy
import json
import sys
import warnings
from typing import Any

import accelerate
import torch
from torch.utils.data import DataLoader

from enqueuer import SequenceEnqueuer
from enqueuer.adapters.torch import as_iterable, from_dataset, rank_shard
from tests.adapters.torch_odd_sources import Counted

SAMPLES, BATCH, EPOCH = 48, 2, 12
# Within the first epoch, at its end, and within the second.
SAVED_AT = (5, EPOCH, 19)


def train(accelerator: Any, how: str, state: Any) -> tuple[list[list[int]], dict[int, Any]]:
    """The samples of each step to the end of the second epoch, and the states at some of them."""
    shard = rank_shard() if how == "own" else (0, 1)
    source = from_dataset(Counted(SAMPLES), BATCH, shuffle=True, seed=3)
    steps: list[list[int]] = []
    states = {}
    with SequenceEnqueuer(source, seed=1, shard=shard) as enq:
        stream = as_iterable(enq, workers=1)
        loader: Any = stream if how == "own" else accelerator.prepare(DataLoader(stream, batch_size=None))
        done = 0
        if state is not None:
            done, saved = state
            loader.load_state_dict(saved)
        while done + len(steps) < 2 * EPOCH:
            for batch in loader:
                steps.append(batch.tolist())
                if len(steps) in SAVED_AT:
                    states[len(steps)] = copied(loader.state_dict(), of_first_rank=how == "dealt")
    return steps, states


def copied(state: Any, *, of_first_rank: bool) -> Any:
    box = [state]
    if of_first_rank:
        torch.distributed.broadcast_object_list(box, src=0)
    return copy.deepcopy(box[0])


def main(how: str) -> None:
    warnings.simplefilter("ignore")
    configuration = accelerate.DataLoaderConfiguration(use_stateful_dataloader=True)
    accelerator = accelerate.Accelerator(cpu=True, dataloader_config=configuration)
    whole, states = train(accelerator, how, None)
    resumed = {step: train(accelerator, how, (step, states[step]))[0] for step in SAVED_AT}
    print(json.dumps({"whole": whole, "resumed": resumed}))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
