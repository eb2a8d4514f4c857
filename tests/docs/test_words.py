"""The guide's names and the code's names are the same: words, files, modules, options, quoted messages."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

from enqueuer import SequenceEnqueuer, Timing
from enqueuer.cli.main import main
from enqueuer.options import Options
from tests.docs.pages import ALL, SITE, name
from tests.support.code_names import identifiers, modules, texts
from tests.support.snippets import PAGES, REPOSITORY

WORDS = PAGES / "contributing" / "words.md"
TROUBLESHOOTING = PAGES / "how-to" / "troubleshooting.md"
# Messages of the system and of Python in the same tables.
OF_OTHERS = {"Address already in use", "MemoryError"}
_SPAN = re.compile(r"`([^`\n]+)`")
_TOP = ("enqueuer/", "workers/", "tests/", "deploy/", "examples/", "docs/", ".ci/")


def rows(page: Path, *heads: str) -> Iterator[list[str]]:
    """The cells of each row of the page's tables that have one of these words at the head of the first column."""
    lines = page.read_text().splitlines()
    head = ""
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if following.startswith("|---"):
            head = cells[0]
        elif line.startswith("| ") and head in heads:
            yield cells


def spans(page: Path) -> list[str]:
    """The page's code spans, outside of its blocks."""
    return _SPAN.findall(re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL))


def test_each_word_names_something_in_the_code() -> None:
    named = [word for cells in rows(WORDS, "word") for word in _SPAN.findall(cells[2])]
    assert len(named) > 30
    assert [word for word in named if word not in modules() and word not in identifiers()] == []


def test_no_old_name_is_in_the_code() -> None:
    found = {}
    for cells in rows(WORDS, "not"):
        known = modules() if "(modules)" in cells[0] else {**identifiers(), **modules()}
        found.update({word: known[word] for word in _SPAN.findall(cells[0]) if word in known})
    assert found == {}


@pytest.mark.parametrize("page", ALL, ids=name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = [span.partition(" ")[0] for span in spans(page) if span.startswith(_TOP)]
    assert [path for path in named if not (REPOSITORY / path.rstrip("/")).exists()] == []


def test_the_architecture_lists_every_module_of_the_core() -> None:
    page = (PAGES / "explanation" / "architecture.md").read_text()
    inside = page[page.index("## Inside the core") :]
    core = {path.name for path in (REPOSITORY / "enqueuer" / "core").glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"`(\w+\.py)`", inside)) == core


def test_the_architecture_lists_every_package_and_every_module_beside_them() -> None:
    named = set(spans(PAGES / "explanation" / "architecture.md"))
    library = REPOSITORY / "enqueuer"
    packages = {f"enqueuer/{path.parent.name}/" for path in library.glob("*/__init__.py")}
    beside = {f"enqueuer/{path.name}" for path in library.glob("*.py") if not path.name.startswith("__")}
    assert (packages | beside) - named == set()


@pytest.mark.parametrize("page", ALL, ids=name)
def test_every_module_and_public_name_that_a_page_names_can_be_imported(page: Path) -> None:
    dotted = [re.match(r"enqueuer(?:_worker)?(?:\.\w+)+", span) for span in spans(page)]
    wrong = [match[0] for match in dotted if match is not None and not exists(match[0])]
    assert wrong == []


def exists(dotted: str) -> bool:
    """Whether a module or an attribute of one has this name; a framework that is not installed is believed."""
    module, _, attribute = dotted.rpartition(".")
    path = (REPOSITORY / "workers" if dotted.startswith("enqueuer_worker") else REPOSITORY).joinpath(*dotted.split("."))
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    if module.startswith("enqueuer.adapters."):
        return attribute in path.parent.with_suffix(".py").read_text()
    return hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("page", ALL, ids=name)
def test_every_keyword_of_the_enqueuer_that_a_page_names_exists(page: Path) -> None:
    """In a span such as ``SequenceEnqueuer(…, hedge="off")`` or ``Timing.worker_timeout``."""
    known = {option.name for option in fields(Options)} | set(inspect.signature(SequenceEnqueuer).parameters)
    calls = [span for span in spans(page) if span.startswith(("SequenceEnqueuer(", "OrderedEnqueuer("))]
    named = {keyword for span in calls for keyword in re.findall(r"\b(\w+)=", span)}
    assert named - known == set()
    timings = {match[1] for span in spans(page) if (match := re.match(r"Timing\.(\w+)", span))}
    assert timings - {one.name for one in fields(Timing)} == set()


@pytest.mark.parametrize("page", ALL, ids=name)
def test_every_option_of_a_command_that_a_page_names_exists(page: Path) -> None:
    of_others = ("python -m tests.", "pip ", "kubectl ", "prometheus ", "… ", "#SBATCH ")
    ours = [span for span in spans(page) if not span.startswith(of_others)]
    named = {option for span in ours for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", span)}
    assert named - set(options_of_commands()) == set()


def test_the_page_of_variables_has_each_option_of_a_worker() -> None:
    """Their table is made from the commands, at this mark."""
    page = (PAGES / "reference" / "environment.md").read_text()
    assert "\n<!-- environment -->\n" in page
    worker = main.get_command(click.Context(main), "worker")
    assert worker is not None
    assert [option.name for option in worker.params if not isinstance(option.envvar, str)] == []


def test_the_page_of_installation_lists_every_extra() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    extras = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    page = PAGES / "start" / "install.md"
    listed = {extra for (cell, *_) in rows(page, "extra") for extra in re.findall(r"\[(.+)\]", cell)}
    assert listed == set(re.findall(r"^([a-z]+) = ", extras, re.MULTILINE))


@pytest.mark.parametrize("page", SITE, ids=name)
def test_every_variable_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"\bENQUEUER_[A-Z_]+\b", " ".join(spans(page))))
    of_options = {option.envvar for option in parameters_of_commands()}
    assert {variable for variable in named - of_options if variable not in texts()} == set()


def options_of_commands() -> Iterator[str]:
    yield from ("--help", "--version")
    for option in parameters_of_commands():
        yield from option.opts


def parameters_of_commands(command: click.Command = main) -> Iterator[click.Parameter]:
    yield from command.params
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from parameters_of_commands(inner)


def test_every_message_that_the_troubleshooting_quotes_is_one_of_the_codes() -> None:
    tables = rows(TROUBLESHOOTING, "the log says", "the error says")
    quoted = [text for cells in tables for text in _SPAN.findall(cells[0]) if text not in OF_OTHERS]
    assert len(quoted) > 10
    # Values stand as … in a message: each part between them is a text of the code.
    parts = [part.strip() for text in quoted for part in re.split("…", text)]
    assert [part for part in parts if part and part not in texts()] == []
