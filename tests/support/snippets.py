"""The fenced Python blocks of a page: ```` ```python WORD ```` is a program to run, ``file=NAME`` a module for them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```python ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Snippet:
    """``word`` follows ```` ```python ```` on its fence; ``heading`` is the one above it."""

    word: str
    source: str
    heading: str


def snippets(page: Path) -> list[Snippet]:
    """All of them, in order."""
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        headings = re.findall(r"^#+ (.*)$", _BLOCK.sub("", text[: match.start()]), re.MULTILINE)
        found.append(Snippet(match[1], match[2], headings[-1]))
    return found


def write_modules(page: Path, directory: Path) -> None:
    """The page's ``file=NAME`` blocks, as files that its programs can import."""
    for snippet in snippets(page):
        if snippet.word.startswith("file="):
            (directory / snippet.word.removeprefix("file=")).write_text(snippet.source)
