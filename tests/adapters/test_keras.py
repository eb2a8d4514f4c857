"""Keras 3 on each of its backends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.frameworks import run_tests_in_framework

HERE = Path(__file__).parent


@pytest.mark.parametrize("backend", ["jax", "torch", "tensorflow"])
def test_keras_3_trains_from_an_enqueuer(backend: str) -> None:
    run_tests_in_framework(HERE / "in_keras.py", "keras", backend, ENQUEUER_TEST_KERAS="keras", KERAS_BACKEND=backend)


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_epochs_of_keras_3_are_those_of_its_own_datasets(backend: str) -> None:
    file = HERE / "in_keras_epochs.py"
    run_tests_in_framework(file, "keras", backend, ENQUEUER_TEST_KERAS="keras", KERAS_BACKEND=backend)


def test_an_enqueuer_distributes_keras_3_datasets() -> None:
    run_tests_in_framework(
        HERE / "in_keras_sources.py", "keras", "jax", ENQUEUER_TEST_KERAS="keras", KERAS_BACKEND="jax"
    )
