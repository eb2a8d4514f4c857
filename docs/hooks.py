"""Hooks of the guide's build: pages that stand elsewhere in the repository, links to them, generated tables.

The pages link to one another, and to other files of the repository, as the repository's viewer needs it. On the site,
a link to a file that has a page leads to that page; a link to any other file becomes plain text.

`<!-- options: CLASS -->` in a page is replaced by the table of that class's fields: their sentences stand in
``enqueuer/options.py`` and nowhere else. `<!-- environment -->` is replaced by the variables of the commands.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

PAGES = "docs/pages"
# Pages that are files elsewhere in the repository -> where they stand on the site.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing/index.md",
    "CHANGELOG.md": "contributing/changelog.md",
    "deploy/README.md": "how-to/containers.md",
    "SECURITY.md": "explanation/security.md",
}
IMAGES = {"tests/benchmarks/results/comparison.png": "assets/comparison.png"}

_FENCE = re.compile(r"^(?P<fence>`{3,}).*?^(?P=fence)$", re.MULTILINE | re.DOTALL)
# The word after a fence's language says how the tests run it (tests/support/snippets.py); a file's name is shown.
_FENCE_HEAD = re.compile(r"^```(?P<language>\w+) (?:file=(?P<file>\S+)|\S+)$", re.MULTILINE)
_LINK = re.compile(r"(?P<bang>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
_OPTIONS = re.compile(r"^<!-- options: (\w+) -->$", re.MULTILINE)
_ENVIRONMENT = "<!-- environment -->"
_OUTSIDE = re.compile(r"<(?:script|img|iframe)\b[^>]*\bsrc=\"(?:https?:)?//|<link\b[^>]*\bhref=\"(?:https?:)?//")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The tables, and the reference of the commands, are made from the sources beside this file."""
    for path in (str(ROOT / "workers"), str(ROOT)):
        if path not in sys.path:
            sys.path.insert(0, path)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in ELSEWHERE.items():
        if files.get_file_from_path(page) is None:
            files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for source, image in IMAGES.items():
        files.append(File.generated(config, image, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    source = _repository_path(page.file)
    pages = {f"{PAGES}/{file.src_uri}": file.src_uri for file in files.documentation_pages()}
    site = ELSEWHERE | IMAGES | pages

    def move(match: re.Match[str]) -> str:
        target = match["target"]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        found = site.get(posixpath.normpath(posixpath.join(posixpath.dirname(source), target)))
        if found is None:
            return match["text"]
        link = posixpath.relpath(found, posixpath.dirname(page.file.src_uri))
        return f"{match['bang']}[{match['text']}]({link}{match['anchor'] or ''})"

    markdown = _OPTIONS.sub(lambda match: "\n".join(_options_table(match[1])), markdown)
    if _ENVIRONMENT in markdown:
        markdown = markdown.replace(_ENVIRONMENT, "\n".join(_environment_table()))
    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(move, markdown[end : fence.start()]), _FENCE_HEAD.sub(_fence_head, fence[0])]
        end = fence.end()
    return "".join([*parts, _LINK.sub(move, markdown[end:])])


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """A page that a browser would complete from another server is an error."""
    outside = _OUTSIDE.search(output)
    if outside is not None:
        raise PluginError(f"{page.file.src_uri} loads something from another server: {outside[0]}")
    return output


def _repository_path(file: File) -> str:
    for source, page in ELSEWHERE.items():
        if page == file.src_uri and file.generated_by is not None:
            return source
    return f"{PAGES}/{file.src_uri}"


def _fence_head(match: re.Match[str]) -> str:
    return f"```{match['language']}" + (f' title="{match["file"]}"' if match["file"] else "")


def _options_table(name: str) -> Iterator[str]:
    from enqueuer import options

    listed = dataclasses.fields(getattr(options, name))
    groups_count = sum(bool(option.metadata["group"]) for option in listed)
    for option in listed:
        if option.metadata["group"]:
            # A group begins at the option that names it; one group needs no title.
            yield from ("", f"### {option.metadata['group']}" if groups_count > 1 else "", "")
            yield from ("| option | default | |", "|---|---|---|")
        text = re.sub(r"``(.+?)``", r"`\1`", option.metadata["doc"]).replace("|", "\\|")
        yield f"| `{option.name}` | `{_default(option)}` | {text} |"


def _default(option: dataclasses.Field[Any]) -> str:
    default = option.default if option.default is not dataclasses.MISSING else option.default_factory()  # type: ignore[misc]
    return f"{type(default).__name__}()" if dataclasses.is_dataclass(default) else repr(default)


def _environment_table() -> Iterator[str]:
    """The variables that stand for an option of a command."""
    from enqueuer.cli.main import main

    yield from ("| variable | command | option |", "|---|---|---|")
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        for option in command.params if command is not None else ():
            if isinstance(option.envvar, str):
                yield f"| `{option.envvar}` | `enqueuer {name}` | `{option.opts[0]}` |"
