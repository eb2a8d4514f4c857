"""A Lightning training on two processes: ``python lightning_program.py FOLDER``.

Lightning starts the second process from this very file. It trains two epochs with a checkpoint every four steps, then
again from some of these. The samples of each process's steps and its last weights go to ``FOLDER/RANK.json``.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch

from enqueuer import SequenceEnqueuer
from enqueuer.adapters.torch import as_iterable, from_dataset, rank_shard
from tests.adapters.torch_odd_sources import Counted

COUNT = 24
# Within the second epoch, and at the end of the first.
RESUMED_AT = (16, 12)


class Data(lightning.LightningDataModule):
    def setup(self, stage: str) -> None:
        source = from_dataset(Counted(COUNT), 1, shuffle=True, seed=3)
        self.enqueuer = SequenceEnqueuer(source, seed=1, shard=rank_shard())

    def train_dataloader(self) -> Any:
        return as_iterable(self.enqueuer, workers=1)

    def teardown(self, stage: str) -> None:
        self.enqueuer.close()


class Recorder(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(1, 1)
        self.trained: list[int] = []

    def training_step(self, batch: torch.Tensor, number: int) -> torch.Tensor:
        self.trained.append(int(batch[0]))
        return self.layer(batch.float()[:, None]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 1e-4)


def train(folder: Path, checkpoint: Path | None = None) -> dict[str, Any]:
    saver = lightning.pytorch.callbacks.ModelCheckpoint(folder, filename="{step}", every_n_train_steps=4, save_top_k=-1)
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        callbacks=[] if checkpoint else [saver],
        enable_checkpointing=checkpoint is None,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Recorder()
    trainer.fit(module, datamodule=Data(), ckpt_path=checkpoint)
    weights = [value for part in module.state_dict().values() for value in part.flatten().tolist()]
    return {"steps": module.trained, "weights": weights}


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    whole = train(folder)
    torch.distributed.barrier()
    resumed = {step: train(folder, folder / f"step={step}.ckpt") for step in RESUMED_AT}
    (folder / f"{torch.distributed.get_rank()}.json").write_text(json.dumps({"whole": whole, "resumed": resumed}))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
