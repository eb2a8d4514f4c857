"""Every link of the guide leads somewhere: to a file of the repository, and to a heading in it."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from tests.docs.pages import ALL, name
from tests.support.snippets import REPOSITORY

PAGES = [*ALL, *sorted((REPOSITORY / "tests").rglob("*.md")), REPOSITORY / "deploy" / "README.md"]
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?P<target>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?\)")
_HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for match in _LINK.finditer(_CODE.sub("", page.read_text())):
        target, anchor = match["target"], match["anchor"]
        if "://" in target or target.startswith("mailto:"):
            continue
        found = (page.parent / target).resolve() if target else page
        if not found.exists():
            broken.append(f"{target}: no such file")
        elif anchor is not None and anchor not in anchors(found):
            broken.append(f"{target}#{anchor}: no such heading")
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors that both the site and the repository's viewer give to the page's headings."""
    texts = [
        match["text"] for match in _HEADING.finditer(re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S))
    ]
    texts = [re.sub(r"`|\[([^\]]*)\]\([^)]*\)", r"\1", text) for text in texts]
    return {of_site(text) for text in texts} & {of_viewer(text) for text in texts}


def of_site(text: str) -> str:
    """Python-Markdown's: ASCII only, runs of blanks and hyphens are one."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def of_viewer(text: str) -> str:
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
