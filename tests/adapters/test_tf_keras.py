"""tf-keras: Keras 2, maintained beside Keras 3."""

from __future__ import annotations

from pathlib import Path

from tests.support.frameworks import run_tests_in_framework

HERE = Path(__file__).parent


def test_tf_keras_2_trains_from_an_enqueuer() -> None:
    run_tests_in_framework(HERE / "in_keras.py", "tf_keras", ENQUEUER_TEST_KERAS="tf_keras", TF_USE_LEGACY_KERAS="1")


def test_epochs_of_tf_keras_2_are_those_of_its_own_datasets() -> None:
    file = HERE / "in_keras_epochs.py"
    run_tests_in_framework(file, "tf_keras", ENQUEUER_TEST_KERAS="tf_keras", TF_USE_LEGACY_KERAS="1")


def test_an_enqueuer_distributes_tf_keras_2_datasets() -> None:
    run_tests_in_framework(
        HERE / "in_keras_sources.py", "tf_keras", ENQUEUER_TEST_KERAS="tf_keras", TF_USE_LEGACY_KERAS="1"
    )
