"""A directory for the sockets of a test's own trainers: without it, a test would see those of all others."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def own_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory in which this process's trainers have their sockets. Its path is short, as the kernel wants it."""
    with tempfile.TemporaryDirectory(prefix="obs-", dir="/tmp") as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        yield Path(name) / "enqueuer"
