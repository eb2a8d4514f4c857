"""Run by `test_torch_trainers`: Lightning's Trainer over an enqueuer's loader, beside a plain ``DataLoader``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from enqueuer import SequenceEnqueuer
from enqueuer.adapters.torch import as_iterable, from_dataset
from tests.adapters.torch_odd_sources import Counted

COUNT = 12
WANTED = [(epoch, number) for epoch in range(2) for number in range(COUNT)]
pytestmark = pytest.mark.filterwarnings("ignore")
PROCESSES = pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])


class Recorder(lightning.LightningModule):
    """Notes the epoch and sample of each training step, and the samples of validation."""

    def __init__(self, stop_at: int = -1) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.trained: list[tuple[int, int]] = []
        self.validated: list[int] = []
        self.stop_at = stop_at

    def training_step(self, batch: torch.Tensor, number: int) -> torch.Tensor:
        self.trained.append((self.current_epoch, int(batch[0])))
        if len(self.trained) == self.stop_at:
            raise RuntimeError("killed here")
        return self.layer(batch.float()[:, None]).mean()

    def validation_step(self, batch: torch.Tensor, number: int) -> None:
        self.validated.append(int(batch[0]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.001)


def fit(folder: Path, train: Any, held_out: Any = None, module: Recorder | None = None, **options: Any) -> Recorder:
    module, path = module or Recorder(), options.pop("ckpt_path", None)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    settings = {**quiet, "default_root_dir": folder, "enable_checkpointing": False, **options}
    lightning.Trainer(**settings).fit(module, train, held_out, ckpt_path=path)
    return module


def plain(count: int) -> DataLoader[Any]:
    return DataLoader(Counted(count), batch_size=1)


@PROCESSES
@pytest.mark.parametrize(
    "options",
    [
        {"num_sanity_val_steps": 2, "max_epochs": 2},
        {"num_sanity_val_steps": 0, "max_epochs": 3, "limit_train_batches": 5, "limit_val_batches": 3},
    ],
    ids=["sanity check", "limited epochs"],
)
def test_lightning_trains_and_validates_on_the_batches_of_a_data_loader(
    tmp_path: Path, options: dict[str, Any], processes: bool
) -> None:
    wanted = fit(tmp_path, plain(COUNT), plain(6), **options)
    with (
        SequenceEnqueuer(from_dataset(Counted(COUNT)), use_multiprocessing=processes) as enq,
        SequenceEnqueuer(from_dataset(Counted(6)), use_multiprocessing=processes) as held_out,
    ):
        got = fit(tmp_path, as_iterable(enq, workers=1), as_iterable(held_out, workers=1), **options)
    assert (got.trained, got.validated) == (wanted.trained, wanted.validated)


@PROCESSES
@pytest.mark.parametrize(("every", "resumed_at"), [(5, 15), (COUNT, COUNT)], ids=["within an epoch", "at its end"])
def test_a_run_that_was_killed_resumes_from_lightnings_checkpoint(
    tmp_path: Path, every: int, resumed_at: int, processes: bool
) -> None:
    """The checkpoint holds the loader's own state: Lightning asks for its ``state_dict``."""
    saver = lightning.pytorch.callbacks.ModelCheckpoint(
        tmp_path, filename="{step}", every_n_train_steps=every, save_top_k=-1
    )
    options = {"max_epochs": 2, "num_sanity_val_steps": 0, "enable_checkpointing": True}
    first, second = Recorder(stop_at=17), Recorder()
    with (
        SequenceEnqueuer(from_dataset(Counted(COUNT)), use_multiprocessing=processes) as enq,
        pytest.raises(RuntimeError, match="killed"),
    ):
        fit(tmp_path, as_iterable(enq, workers=1), module=first, callbacks=[saver], **options)
    with SequenceEnqueuer(from_dataset(Counted(COUNT)), use_multiprocessing=processes) as enq:
        path = str(tmp_path / f"step={resumed_at}.ckpt")
        fit(tmp_path, as_iterable(enq, workers=1), module=second, ckpt_path=path, **options)
    assert (first.trained, second.trained) == (WANTED[:17], WANTED[resumed_at:])
