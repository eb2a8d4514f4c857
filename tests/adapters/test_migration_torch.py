"""The snippets of the guide's page on moving from PyTorch, JAX and Ray run, and train on the same batches."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path

import pytest

from tests.support.frameworks import require_frameworks
from tests.support.scripts import run_script
from tests.support.snippets import PAGES

PAGE = (PAGES / "how-to" / "torch.md").read_text()
BLOCKS = re.findall(r"^```python (file|name)=(\S+)\n(.*?)^```$", PAGE, re.M | re.S)
FILES = {name: text for kind, name, text in BLOCKS if kind == "file"}
SNIPPETS = {name: text for kind, name, text in BLOCKS if kind == "name"}

# Runs snippets one after another in one interpreter, since importing torch takes seconds. The reader has to bring a
# training step; the one here writes down its batches.
PROGRAM = """
import hashlib, json, sys, warnings
import numpy as np

warnings.simplefilter("error")
warnings.simplefilter("ignore", DeprecationWarning)
warnings.simplefilter("ignore", FutureWarning)

def digest(array):
    return hashlib.sha256(repr((array.dtype.name, array.shape)).encode() + array.tobytes()).hexdigest()

taken = []
for snippet, setting in json.loads(sys.argv[1]):
    steps = []
    def train_step(*batch):
        arrays = [np.asarray(one) for one in batch]
        steps.append([[digest(array) for array in arrays], arrays[-1].tolist()])
    exec(compile(snippet, "snippet", "exec"), {"train_step": train_step, **setting})
    taken.append(steps)
print(json.dumps(taken))
"""

Steps = list[tuple[list[str], list[int]]]


def run(directory: Path, *names: str, settings: tuple[dict[str, object], ...] = ()) -> list[Steps]:
    """The steps of each snippet: the digests of the step's arrays, and the labels."""
    for file, text in FILES.items():
        (directory / file).write_text(text)
    job = [(SNIPPETS[name], setting) for name, setting in zip_longest(names, settings, fillvalue={})]
    return json.loads(run_script(PROGRAM, directory, [json.dumps(job)], timeout=580))


def labels(steps: Steps) -> list[list[int]]:
    return [step[1] for step in steps]


def test_every_block_of_the_page_is_known_here() -> None:
    assert len(BLOCKS) == PAGE.count("```python")
    assert set(FILES) == {"mydata.py", "mybatches.py", "mypipeline.py"}
    pairs = {"loader-before", "loader-after", "ranks-before", "ranks-after", "jax-before", "jax-after"}
    assert set(SNIPPETS) == {*pairs, "loader-remote", "stateful-after", "datasets-after", "ray-before", "ray-after"}
    for text in (*FILES.values(), *SNIPPETS.values()):
        compile(text, "snippet", "exec")


def test_before_and_after_train_on_the_same_bits(tmp_path: Path) -> None:
    require_frameworks("torch")
    before, after = run(tmp_path, "loader-before", "loader-after")
    assert len(before) == 20
    assert before == after


def test_before_and_after_train_on_the_same_bits_in_jax(tmp_path: Path) -> None:
    require_frameworks("jax")
    before, after = run(tmp_path, "jax-before", "jax-after")
    assert len(before) == 20
    assert before == after


def test_before_and_after_have_the_same_samples_in_each_step_of_all_ranks(tmp_path: Path) -> None:
    require_frameworks("torch")
    names = ("ranks-before", "ranks-before", "ranks-after", "ranks-after")
    settings = tuple({"rank": rank, "world_size": 2} for rank in (0, 1, 0, 1))
    ranks = [labels(steps) for steps in run(tmp_path, *names, settings=settings)]
    before, after = ([sorted(a + b) for a, b in zip(*pair, strict=True)] for pair in (ranks[:2], ranks[2:]))
    assert len(before) == 10
    assert before == after


def test_a_named_dataset_trains_and_a_training_goes_on_where_its_state_was_saved(tmp_path: Path) -> None:
    require_frameworks("torch")
    for steps in run(tmp_path, "loader-remote", "stateful-after"):
        seen = labels(steps)
        for epoch in (seen[:10], seen[10:]):
            assert sorted(sample for batch in epoch for sample in batch) == list(range(40))
        assert seen[:10] != seen[10:]


WRITE_ROWS = """
import datasets
datasets.disable_progress_bars()
rows = {"image": [[float(i)] * 4 for i in range(150)], "label": list(range(150))}
datasets.Dataset.from_dict(rows).to_parquet("images.parquet")
"""


def test_rows_train_without_ray(tmp_path: Path) -> None:
    require_frameworks("torch", "datasets")
    run_script(WRITE_ROWS, tmp_path, timeout=200)
    plain, steps = run(tmp_path, "datasets-after", "ray-after")
    assert labels(plain) == [list(range(4 * step, 4 * step + 4)) for step in range(10)]
    assert [len(batch) for batch in labels(steps)] == [64, 64, 22] * 2
    for epoch in (steps[:3], steps[3:]):
        assert sorted(sample for batch in labels(epoch) for sample in batch) == list(range(150))


def test_the_same_rows_train_with_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where Ray is installed: no extra of this package has its 80 MB and cluster of processes for one snippet."""
    require_frameworks("torch", "datasets")
    if find_spec("ray") is None:
        pytest.skip("needs Ray: pip install 'ray[data,train]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    run_script(WRITE_ROWS, tmp_path, timeout=200)
    (steps,) = run(tmp_path, "ray-before")
    assert len(steps) == 6
    for epoch in (steps[:3], steps[3:]):
        assert sorted(sample for batch in labels(epoch) for sample in batch) == list(range(150))
