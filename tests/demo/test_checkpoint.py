"""The demo's checkpoint: saved atomically, loaded unchanged, and refused with a reason if it is another file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from enqueuer.demo.checkpoint import Checkpoint
from enqueuer.demo.classifier import Classifier
from enqueuer.errors import ConfigurationError


def train(classifier: Classifier, steps: int, first: int = 0) -> list[float]:
    losses = []
    for step in range(first, first + steps):
        rng = np.random.default_rng(step)
        losses.append(classifier.step(rng.random((8, 6), np.float32), rng.integers(0, 3, 8)))
    return losses


def test_a_classifier_that_was_saved_and_loaded_goes_on_as_one_that_was_not(tmp_path: Path) -> None:
    whole, first, second = (Classifier(6, 3, seed=seed) for seed in (1, 1, 2))
    uninterrupted = train(whole, 20)
    train(first, 9)
    checkpoint = Checkpoint(tmp_path / "file", "job")
    checkpoint.save(9, {"epoch": 1}, first.state)
    progress = checkpoint.load()
    assert progress is not None
    assert (progress.batches_count, progress.stream) == (9, {"epoch": 1})
    second.state = progress.weights
    assert train(second, 11, first=9) == uninterrupted[9:]


def test_before_the_first_save_there_is_nothing_to_load(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path / "file", "job").load() is None


def test_another_training_is_refused_with_both_named(tmp_path: Path) -> None:
    Checkpoint(tmp_path / "file", "seed 1").save(1, {}, [])
    with pytest.raises(ConfigurationError, match=r"of another training \(seed 1\), not of this one \(seed 2\)"):
        Checkpoint(tmp_path / "file", "seed 2").load()


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    np.savez(tmp_path / "arrays.npz", weights=np.zeros(3))
    for name in ("text", "arrays.npz"):
        with pytest.raises(ConfigurationError, match="is no checkpoint of this demo"):
            Checkpoint(tmp_path / name, "job").load()


def test_a_file_of_pickles_is_not_recommended_to_be_unpickled(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk\n")
    with pytest.raises(ConfigurationError, match="junk is no checkpoint of this demo: name a new file") as caught:
        Checkpoint(tmp_path / "junk", "job").load()
    assert "unsafely" not in str(caught.value)


def test_a_file_in_a_folder_that_is_not_there_is_refused_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"resume='.*state' cannot be written: there is no folder {tmp_path}/no"
    ):
        Checkpoint(tmp_path / "no" / "state", "job").load()


def test_a_save_that_fails_leaves_the_last_one_and_nothing_else(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "file", "job")
    checkpoint.save(1, {}, [])
    with pytest.raises(TypeError):
        checkpoint.save(2, {"not": {"json"}}, [])
    progress = checkpoint.load()
    assert progress is not None and progress.batches_count == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
