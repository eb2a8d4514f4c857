"""Bare processes that compute one batch after the other and throw it away: all that the cores can give.

Each tells the trainer of a batch by one byte in a pipe, which costs some microseconds of a batch's milliseconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from tests.benchmarks.comparison.contestants.programs import running
from tests.benchmarks.sequences import make


@contextmanager
def bare(kind: str, depth: int | None, workers: int) -> Iterator[Iterator[Any]]:
    """Yields None for each batch: there is none to be had."""
    read, write = os.pipe()
    try:
        arguments = [(kind, str(write), str(number), str(workers)) for number in range(workers)]
        with running("bare", arguments, (write,)):
            yield (None for _ in iter(lambda: os.read(read, 1), b""))
    finally:
        os.close(read)
        os.close(write)


def main() -> None:
    kind, pipe, number, workers = sys.argv[1], *map(int, sys.argv[2:])
    sequence = make(kind)
    for index in count(number, workers):
        _ = sequence[index]
        os.write(pipe, b".")


if __name__ == "__main__":
    main()
