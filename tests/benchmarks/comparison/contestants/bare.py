"""Two bare processes that compute one batch after the other and throw it away: all that the cores can give.

Each tells the trainer of a batch by one byte in a pipe, which costs some microseconds of a batch's milliseconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from tests.benchmarks.comparison.contestants import WORKERS
from tests.benchmarks.comparison.contestants.programs import running
from tests.benchmarks.sequences import make


@contextmanager
def bare(kind: str, depth: int | None) -> Iterator[Iterator[Any]]:
    """Yields None for each batch: there is none to be had."""
    read, write = os.pipe()
    try:
        arguments = [(kind, str(write), str(number)) for number in range(WORKERS)]
        with running("bare", arguments, (write,)):
            yield (None for _ in iter(lambda: os.read(read, 1), b""))
    finally:
        os.close(read)
        os.close(write)


def main() -> None:
    kind, pipe, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sequence = make(kind)
    for index in count(number, WORKERS):
        _ = sequence[index]
        os.write(pipe, b".")


if __name__ == "__main__":
    main()
