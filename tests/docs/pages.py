"""The pages of the guide: those of the site, and those that stand elsewhere in the repository."""

from __future__ import annotations

from tests.support.snippets import PAGES, REPOSITORY

SITE = sorted(PAGES.rglob("*.md"))
TOP = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
# Beside these, tests/docker runs the blocks of deploy/README.md, which needs an engine.
ALL = [*TOP, *SITE]


def name(page: object) -> str:
    """A page's path in the repository, for the name of a test."""
    return str(page).removeprefix(f"{REPOSITORY}/")
