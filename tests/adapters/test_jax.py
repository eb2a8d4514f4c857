"""JAX's part, in an interpreter of its own with two CPU devices."""

from __future__ import annotations

from pathlib import Path

from tests.support.frameworks import run_tests_in_framework

HERE = Path(__file__).parent


def test_jax_loops_get_an_enqueuers_batches_on_a_device() -> None:
    run_tests_in_framework(HERE / "in_jax.py", "jax", XLA_FLAGS="--xla_force_host_platform_device_count=2")
