"""PyTorch's parts, in interpreters of their own."""

from __future__ import annotations

from pathlib import Path

from tests.support.frameworks import run_tests_in_framework

HERE = Path(__file__).parent


def test_datasets_as_sources() -> None:
    run_tests_in_framework(HERE / "in_torch.py", "torch")


def test_the_enqueuer_as_a_loader() -> None:
    run_tests_in_framework(HERE / "in_torch_stream.py", "torch", "torchdata")
