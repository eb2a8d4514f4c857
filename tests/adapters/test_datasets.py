"""Hugging Face's part, in an interpreter of its own."""

from __future__ import annotations

from pathlib import Path

from tests.support.frameworks import run_tests_in_framework

HERE = Path(__file__).parent


def test_datasets_as_sources(tmp_path: Path) -> None:
    run_tests_in_framework(HERE / "in_datasets.py", "datasets", HF_HOME=str(tmp_path), HF_DATASETS_OFFLINE="1")
