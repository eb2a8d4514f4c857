"""Run by `test_torch_trainers`: Hugging Face's ``Trainer`` over an enqueuer's loader, beside its own loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.utils.data import Dataset

from enqueuer import SequenceEnqueuer, item_rng
from enqueuer.adapters.torch import TensorStream, as_iterable, from_dataset

COUNT = 12
PROCESSES = pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])


class Points(Dataset):
    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": torch.tensor([float(index), item_rng().random()]), "number": index}


class Recorder(torch.nn.Module):
    """Notes the batches of its training steps."""

    def __init__(self, stop_at: int = -1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(2, 1)
        self.seen: list[int] = []
        self.stop_at = stop_at

    def forward(self, x: torch.Tensor, number: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.training:
            if len(self.seen) == self.stop_at:
                raise RuntimeError("killed here")
            self.seen += number.tolist()
        return {"loss": self.layer(x).square().mean()}


class Trainer(transformers.Trainer):
    def __init__(self, loader: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.loader = loader

    def get_train_dataloader(self) -> Any:
        return self.loader


class SaveStream(transformers.TrainerCallback):
    def __init__(self, loader: TensorStream) -> None:
        self.loader = loader

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (folder / f"stream-{args.process_index}.json").write_text(json.dumps(self.loader.state_dict()))


def trainer(folder: Path, loader: Any, model: Recorder, **options: Any) -> Trainer:
    arguments = transformers.TrainingArguments(
        str(folder),
        **{
            "num_train_epochs": 2,
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
            "save_strategy": "steps",
            "logging_steps": 1000,
            **options,
        },
    )
    return Trainer(loader, model=model, args=arguments, callbacks=[SaveStream(loader)])


def weights(model: Recorder) -> list[float]:
    return [value for part in model.state_dict().values() for value in part.flatten().tolist()]


@PROCESSES
@pytest.mark.parametrize(("save_steps", "stop_at"), [(5, 17), (12, 17)], ids=["within an epoch", "at its end"])
def test_a_run_that_was_killed_resumes_bit_by_bit(
    tmp_path: Path, save_steps: int, stop_at: int, processes: bool
) -> None:
    def loader() -> TensorStream:
        source = from_dataset(Points(), 1, shuffle=True, seed=3)
        return as_iterable(SequenceEnqueuer(source, use_multiprocessing=processes, seed=1), workers=1)

    whole, first, second = Recorder(), Recorder(stop_at), Recorder()
    options = {"save_steps": save_steps, "ignore_data_skip": True}
    trainer(tmp_path / "whole", loader(), whole, **options).train()
    with pytest.raises(RuntimeError, match="killed here"):
        trainer(tmp_path / "run", loader(), first, **options).train()
    checkpoint = Path(transformers.trainer_utils.get_last_checkpoint(str(tmp_path / "run")))
    stream = loader()
    stream.load_state_dict(json.loads((checkpoint / "stream-0.json").read_text()))
    trainer(tmp_path / "run", stream, second, **options).train(resume_from_checkpoint=str(checkpoint))
    step = int(checkpoint.name.rpartition("-")[2])
    assert (first.seen, second.seen) == (whole.seen[:stop_at], whole.seen[step:])
    assert weights(second) == weights(whole)
