"""What code a `SequenceSpec` stands for, as a few bytes that trainer and worker can compare.

Hashes the source files of the target's top-level package (its own files are what its result depends on most; what they
import beyond is the business of a lock file) and the arguments. The same on every machine that has the same files.
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
    """A digest of the target, its package's source and the arguments; b'' (unknown) where there is no source to read.

    ``target`` and ``kwargs`` are those of a `SequenceSpec`. The source is read once a process: what runs is what was
    imported, not what an editor saved since.
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
    left = SOURCE_LIMIT_BYTES
    for name, path in _source_files(package):
        content = path.read_bytes()[:left]
        left -= len(content)
        digest.update(f"{name}\0{len(content)}\0".encode(errors="surrogateescape"))
        digest.update(content)
        if left == 0:
            break
    return b"" if left == SOURCE_LIMIT_BYTES else digest.digest()


def _source_files(package: str) -> list[tuple[str, Path]]:
    """The .py files of a top-level module or package by their names relative to it, in the order of those."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        # A namespace package has several roots, and one twice if it can be found by two entries of sys.path.
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
    """The value with the entries of all dicts in one order: equal arguments have one digest."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(part) for part in value] if isinstance(value, list) else value
