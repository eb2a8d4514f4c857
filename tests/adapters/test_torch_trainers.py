"""Trainers over PyTorch, in interpreters of their own: resumed in the middle and at the end of an epoch."""

from __future__ import annotations

from pathlib import Path

from tests.support.frameworks import run_tests_in_framework

HERE = Path(__file__).parent


def test_lightning_trains_on_an_enqueuer_and_resumes() -> None:
    run_tests_in_framework(HERE / "in_lightning.py", "torch", "lightning")


def test_accelerate_loses_no_batch_of_an_enqueuer() -> None:
    run_tests_in_framework(HERE / "in_accelerate.py", "torch", "torchdata", "accelerate")
