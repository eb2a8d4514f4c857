"""tf.data."""

from __future__ import annotations

from pathlib import Path

from tests.support.frameworks import run_tests_in_framework


def test_tf_data_reads_batches_from_an_enqueuer() -> None:
    run_tests_in_framework(Path(__file__).with_name("in_tensorflow.py"), "tensorflow")
