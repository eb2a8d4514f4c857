"""Keras 3 on each of its backends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.frameworks import run_tests_in_framework

HERE = Path(__file__).parent


@pytest.mark.parametrize("backend", ["jax", "torch", "tensorflow"])
def test_an_enqueuer_is_at_home_in_keras_3(backend: str) -> None:
    run_tests_in_framework(HERE / "in_keras.py", "keras", backend, ENQUEUER_TEST_KERAS="keras", KERAS_BACKEND=backend)


def test_its_own_datasets_are_sources() -> None:
    run_tests_in_framework(
        HERE / "in_keras_sources.py", "keras", "jax", ENQUEUER_TEST_KERAS="keras", KERAS_BACKEND="jax"
    )
