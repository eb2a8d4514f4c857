"""Two bare pipes a worker: a byte of credit for each batch one way, raw bytes the other way, taken in turns.

No library, no acknowledgement, no recovery: what is left of a transport once all that a loader promises is taken away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import fcntl
from itertools import count, cycle
from typing import Any

import numpy as np

from tests.benchmarks.comparison.contestants.programs import running
from tests.benchmarks.sequences import make

_F_SETPIPE_SZ = 1031
_PIPE_BYTES = 1 << 20
_DEFAULT_DEPTH = 10
_LENGTH = 8


@contextmanager
def pipes(kind: str, depth: int | None, workers: int) -> Iterator[Iterator[Any]]:
    example = make(kind)[0]
    credits_each = -(-((depth or _DEFAULT_DEPTH) + workers) // workers)
    credit, results = [os.pipe() for _ in range(workers)], [os.pipe() for _ in range(workers)]
    try:
        arguments = []
        for number, ((read, write), (_, answer)) in enumerate(zip(credit, results, strict=True)):
            with suppress(OSError):  # more than this user may have
                fcntl(answer, _F_SETPIPE_SZ, _PIPE_BYTES)
            os.write(write, b"." * credits_each)
            arguments.append((kind, str(read), str(answer), str(number), str(workers)))
        ends = [(write, read) for (_, write), (read, _) in zip(credit, results, strict=True)]
        passed = [fd for (read, _), (_, answer) in zip(credit, results, strict=True) for fd in (read, answer)]
        with running("pipes", arguments, passed):
            yield _batches(ends, example)
    finally:
        for fd in (fd for pair in (*credit, *results) for fd in pair):
            os.close(fd)


def _batches(ends: list[tuple[int, int]], example: tuple[np.ndarray, ...]) -> Iterator[Any]:
    for write, read in cycle(ends):
        memory = _read(read, int.from_bytes(_read(read, _LENGTH), "little"))
        os.write(write, b".")
        parts, start = [], 0
        for array in example:
            parts.append(np.frombuffer(memory, array.dtype, array.size, start).reshape(array.shape))
            start += array.nbytes
        yield tuple(parts)


def _read(fd: int, size: int) -> bytearray:
    memory = bytearray(size)
    left = memoryview(memory)
    while left:
        count_read = os.readv(fd, [left])
        if not count_read:
            raise EOFError("a worker of the pipes has ended")
        left = left[count_read:]
    return memory


def main() -> None:
    kind, credit_fd, answer_fd, number, workers = sys.argv[1], *map(int, sys.argv[2:])
    sequence = make(kind)
    left = 0
    for index in count(number, workers):
        if not left:
            left = len(os.read(credit_fd, 64))
        left -= 1
        data = b"".join([array.tobytes() for array in sequence[index]])
        os.write(answer_fd, len(data).to_bytes(_LENGTH, "little"))
        view = memoryview(data)
        while view:
            view = view[os.write(answer_fd, view) :]


if __name__ == "__main__":
    main()
