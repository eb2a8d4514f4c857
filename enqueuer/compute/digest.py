"""The digest of a `SequenceSpec`: a few bytes by which trainer and worker compare the code they would run.

It covers the arguments and the source files of the target's top-level package. A result depends on these most; a lock
file can pin the packages they import. Machines with the same files compute the same digest.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack

DIGEST_BYTES = 16
# A project is some megabytes; the limit keeps a target inside a giant library from delaying the first batch by seconds.
SOURCE_LIMIT_BYTES = 64 * 1024 * 1024


def sequence_digest(target: str, kwargs: dict[str, Any]) -> bytes:
    """A digest of the target, its package's source and the arguments; b'' (unknown) if there is no source to read.

    ``target`` and ``kwargs`` are those of a `SequenceSpec`. The source is read once a process, because the process
    runs the code as imported, not as edited since.
    """
    source = _source_digest(target.partition(":")[0].partition(".")[0])
    if not source:
        return b""
    digest = hashlib.blake2b(source, digest_size=DIGEST_BYTES)
    digest.update(msgpack.packb([target, _sorted(kwargs)]))
    return digest.digest()


@functools.cache
def _source_digest(package: str) -> bytes:
    digest = hashlib.blake2b()
    bytes_left = SOURCE_LIMIT_BYTES
    for name, path in _source_files(package):
        content = path.read_bytes()[:bytes_left]
        bytes_left -= len(content)
        digest.update(f"{name}\0{len(content)}\0".encode(errors="surrogateescape"))
        digest.update(content)
        if bytes_left == 0:
            break
    return b"" if bytes_left == SOURCE_LIMIT_BYTES else digest.digest()


def _source_files(package: str) -> list[tuple[str, Path]]:
    """(name, path) of each .py file of a top-level module or package, sorted by the name relative to it."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        # A namespace package has several roots; one is listed twice if two entries of sys.path lead to it.
        roots = {Path(root).resolve() for root in spec.submodule_search_locations}
        return sorted(file for root in roots for file in _files_below(root))
    origin = Path(spec.origin or "")
    return [(origin.name, origin)] if origin.suffix == ".py" and origin.is_file() else []


def _files_below(root: Path) -> Iterator[tuple[str, Path]]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith((".", "__pycache__"))]
        for name in names:
            path = Path(folder, name)
            if path.suffix == ".py" and path.is_file():
                yield path.relative_to(root).as_posix(), path


def _sorted(value: Any) -> Any:
    """The value with all dicts in the order of their keys, so that equal arguments have one digest."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(part) for part in value] if isinstance(value, list) else value
