"""This library: local processes, and a remote worker program over loopback TCP, with and without keys."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from enqueuer import SequenceEnqueuer, SequenceSpec
from enqueuer.security.key_directory import KeyDirectory
from tests.benchmarks.sequences import SOURCES, make
from tests.support.remote import RemoteWorker


@contextmanager
def local(kind: str, depth: int | None, workers: int) -> Iterator[Iterator[Any]]:
    with SequenceEnqueuer(make(kind), True, min_workers=workers) as enqueuer:
        enqueuer.start(workers, *_queue_size(depth))
        yield enqueuer.get()


@contextmanager
def tcp(kind: str, depth: int | None, workers: int) -> Iterator[Iterator[Any]]:
    with tempfile.TemporaryDirectory() as folder, _remote(kind, depth, workers, Path(folder), {}, ()) as batches:
        yield batches


@contextmanager
def keys(kind: str, depth: int | None, workers: int) -> Iterator[Iterator[Any]]:
    with tempfile.TemporaryDirectory() as folder:
        directory = KeyDirectory(Path(folder, "keys"))
        name = directory.create()
        arguments = ("--token-file", str(directory.token_file(name)))
        with _remote(kind, depth, workers, Path(folder), {"key_file": directory.key_file}, arguments) as batches:
            yield batches


@contextmanager
def _remote(
    kind: str, depth: int | None, workers: int, folder: Path, options: dict[str, Any], arguments: tuple[str, ...]
) -> Iterator[Iterator[Any]]:
    """One worker program of so many processes; shared memory is off, since a real remote one has none."""
    cls, values = SOURCES[kind]
    spec = SequenceSpec(f"{cls.__module__}:{cls.__qualname__}", **values)
    options = {"bind": "tcp://127.0.0.1:*", "min_workers": workers, "shared_memory": False, **options}
    with SequenceEnqueuer(spec, **options) as enqueuer:
        enqueuer.start(0, *_queue_size(depth))
        assert enqueuer.endpoint is not None
        with RemoteWorker(enqueuer.endpoint, folder / "log", workers, arguments):
            yield enqueuer.get()


def _queue_size(depth: int | None) -> tuple[int, ...]:
    return () if depth is None else (depth,)
