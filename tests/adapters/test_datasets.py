"""Hugging Face's part, in an interpreter of its own."""

from __future__ import annotations

from pathlib import Path

from tests.support.frameworks import run_tests_in_framework

HERE = Path(__file__).parent


def test_an_enqueuer_distributes_hugging_face_datasets(tmp_path: Path) -> None:
    run_tests_in_framework(HERE / "in_datasets.py", "datasets", HF_HOME=str(tmp_path), HF_DATASETS_OFFLINE="1")
