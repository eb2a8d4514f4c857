"""The blocks of the guide's page on trainers run, and train on the same batches before and after."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.support.frameworks import require_frameworks
from tests.support.scripts import run_script
from tests.support.snippets import PAGES

PAGE = (PAGES / "how-to" / "torch-trainers.md").read_text()
BLOCKS = re.findall(r"^```python (file|name)=(\S+)\n(.*?)^```$", PAGE, re.M | re.S)
FILES = {name: text for kind, name, text in BLOCKS if kind == "file"}
SNIPPETS = {name: text for kind, name, text in BLOCKS if kind == "name"}

# What the reader brings. Each step writes down its batch: the images' bytes, and the labels.
SETTINGS = """
import json, os, sys, warnings
os.environ.update(CUDA_VISIBLE_DEVICES="", ACCELERATE_USE_CPU="1", HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
warnings.simplefilter("ignore")

steps = []
def train_step(images, labels):
    steps.append([bytes(memoryview(__import__("numpy").asarray(images)).cast("B")).hex(), labels.tolist()])
"""
TORCH_SETTINGS = """
import torch
torch.manual_seed(0)

class Images(torch.utils.data.Dataset):
    def __init__(self, count):
        self.count = count
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        return torch.full((3,), float(index)), index

dataset, held_out = Images(24), Images(8)
model = torch.nn.Linear(3, 1)
"""
LIGHTNING_SETTINGS = """
import lightning

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
    def training_step(self, batch, number):
        train_step(*batch)
        return self.layer(batch[0]).mean()
    def validation_step(self, batch, number):
        pass
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.001)

model = Model()
"""
# `Trainer` shuffles its own datasets by default, with a generator of its own: here it takes them in order.
TRANSFORMERS_SETTINGS = """
import transformers
transformers.Trainer._get_train_sampler = lambda self, dataset=None: None

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
    def forward(self, images, labels):
        train_step(images, labels)
        return {"loss": self.layer(images).mean()}

def collate(samples):
    images, labels = zip(*samples)
    return {"images": torch.stack(images), "labels": torch.tensor(labels)}

model = Model()
"""
PRINT = "\nprint(json.dumps(steps))\n"

Steps = list[tuple[str, list[int]]]


def run(directory: Path, *parts: str) -> Steps:
    directory.mkdir()
    for file, text in FILES.items():
        (directory / file).write_text(text)
    printed = run_script("\n".join([SETTINGS, *parts, PRINT]), directory, timeout=580)
    return json.loads(printed.splitlines()[-1])


def labels(steps: Steps) -> list[list[int]]:
    return [step[1] for step in steps]


def check_same_steps(directory: Path, name: str, *settings: str) -> None:
    before = run(directory / "before", *settings, SNIPPETS[f"{name}-before"])
    assert labels(before) == [list(range(4 * step, 4 * step + 4)) for step in range(6)] * 2
    assert run(directory / "after", *settings, SNIPPETS[f"{name}-after"]) == before


def test_every_block_of_the_page_is_known_here() -> None:
    assert len(BLOCKS) == PAGE.count("```python")
    assert set(FILES) == {"streams.py", "mybatches.py"}
    pairs = {f"{name}-{when}" for name in ("lightning", "accelerate", "trainer") for when in ("before", "after")}
    assert set(SNIPPETS) == {*pairs, "lightning-ranks", "dcp-after", "orbax-after"}
    for text in (*FILES.values(), *SNIPPETS.values()):
        compile(text, "snippet", "exec")


def test_lightning_trains_on_the_same_bits(tmp_path: Path) -> None:
    require_frameworks("torch", "lightning")
    check_same_steps(tmp_path, "lightning", TORCH_SETTINGS, LIGHTNING_SETTINGS)


def test_a_data_module_makes_the_enqueuer_of_its_rank(tmp_path: Path) -> None:
    require_frameworks("torch", "lightning")
    steps = labels(run(tmp_path / "run", TORCH_SETTINGS, LIGHTNING_SETTINGS, SNIPPETS["lightning-ranks"]))
    for epoch in (steps[:6], steps[6:]):
        assert sorted(label for step in epoch for label in step) == list(range(24))
    assert steps[:6] != steps[6:]


def test_accelerate_trains_on_the_same_bits(tmp_path: Path) -> None:
    require_frameworks("torch", "torchdata", "accelerate")
    check_same_steps(tmp_path, "accelerate", TORCH_SETTINGS)


def test_hugging_faces_trainer_trains_on_the_same_bits_and_resumes(tmp_path: Path) -> None:
    require_frameworks("torch", "accelerate", "transformers")
    check_same_steps(tmp_path, "trainer", TORCH_SETTINGS, TRANSFORMERS_SETTINGS)
    resumed = SNIPPETS["trainer-after"].replace("trainer.train()", 'trainer.resume("../after/run/checkpoint-9")')
    steps = run(tmp_path / "resumed", TORCH_SETTINGS, TRANSFORMERS_SETTINGS, resumed)
    assert labels(steps) == [list(range(4 * step, 4 * step + 4)) for step in (3, 4, 5)]


def test_a_training_goes_on_from_a_distributed_checkpoint(tmp_path: Path) -> None:
    require_frameworks("torch")
    steps = labels(run(tmp_path / "run", TORCH_SETTINGS, SNIPPETS["dcp-after"]))
    assert steps == [list(range(4 * step, 4 * step + 4)) for step in range(6)] * 2


def test_a_training_goes_on_from_an_orbax_checkpoint(tmp_path: Path) -> None:
    require_frameworks("jax", "orbax")
    steps = labels(run(tmp_path / "run", SNIPPETS["orbax-after"]))
    for epoch in (steps[:6], steps[6:]):
        assert sorted(step[0] for step in epoch) == list(range(6))
    assert steps[:6] != steps[6:]
