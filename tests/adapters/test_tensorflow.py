"""tf.data."""

from __future__ import annotations

from pathlib import Path

from tests.support.frameworks import run_tests_in_framework


def test_an_enqueuer_is_at_home_in_tf_data() -> None:
    run_tests_in_framework(Path(__file__).with_name("in_tensorflow.py"), "tensorflow")
