"""Imports of frameworks. An error names the extra to install."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

# Each is an extra of its own name.
_FRAMEWORKS = frozenset({"keras", "tensorflow", "torch", "jax", "datasets"})


def import_framework(name: str) -> ModuleType:
    """Import a framework at its first use. Raises ModuleNotFoundError, which names the extra to install."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise_for_framework(error)
        raise


def raise_for_framework(error: ModuleNotFoundError) -> None:
    """If ``error`` is about a missing framework, raise one with the extra to install."""
    if error.name in _FRAMEWORKS:
        text = f"{error.name} is not installed: pip install 'enqueuer[{error.name}]'"
        raise ModuleNotFoundError(text, name=error.name) from error
