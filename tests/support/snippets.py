"""The fenced blocks of a page, and how they are run.

    ```python             a program of the page
    ```python file=NAME   a file: written before what comes after it
    ```python WORD        a program for the framework that WORD names: tests/adapters runs it
    ```sh                 commands of the page

All of a page's blocks run in order: in one directory, the Python in one interpreter with one namespace, as a reader
would type them. A block under ``<!-- not run: REASON -->`` does not run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = REPOSITORY / "docs" / "pages"

_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^>]*) -->\n+)?```(?P<language>\w*) ?(?P<word>\S*)\n(?P<source>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Snippet:
    """``word`` follows the language on the fence; ``heading`` is the one above it; ``reason``: why it does not run."""

    language: str
    word: str
    source: str
    heading: str
    reason: str | None
    line: int

    @property
    def file(self) -> str | None:
        """The name of the file that this block is, if it is one."""
        return self.word.removeprefix("file=") if self.word.startswith("file=") else None


def snippets(page: Path) -> list[Snippet]:
    """All of them, in order."""
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        headings = re.findall(r"^#+ (.*)$", _BLOCK.sub("", text[: match.start()]), re.MULTILINE)
        line = text.count("\n", 0, match.start("language")) + 1
        heading = headings[-1] if headings else ""
        found.append(Snippet(match["language"], match["word"], match["source"], heading, match["reason"], line))
    return found


def write_modules(page: Path, directory: Path) -> None:
    """The page's ``file=NAME`` blocks, as files that its programs can import."""
    for snippet in snippets(page):
        if snippet.file is not None:
            (directory / snippet.file).write_text(snippet.source)
