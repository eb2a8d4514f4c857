"""Inputs that were worth keeping: each reaches code that the others do not, or found a defect once.

One text file a decoder, ``corpus/NAME.txt``: a line an input, base64, sorted, each once.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

DIRECTORY = Path(__file__).parent / "corpus"
# Of one input, and of all of a decoder's: it is in the repository.
MOST_BYTES = 4096
MOST_INPUTS = 300


def load(name: str) -> list[bytes]:
    path = DIRECTORY / f"{name}.txt"
    return [base64.b64decode(line) for line in path.read_text().split()] if path.exists() else []


def store(name: str, inputs: Iterable[bytes]) -> None:
    """The smallest ones, if there are too many."""
    small = sorted({data for data in inputs if len(data) <= MOST_BYTES}, key=len)[:MOST_INPUTS]
    lines = sorted(base64.b64encode(data).decode() for data in small)
    (DIRECTORY / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
