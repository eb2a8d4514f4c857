"""The first steps in a notebook: each block of the page is a cell of a real kernel. Skipped without a kernel."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.test_snippets import write_command
from tests.support.remote import environment
from tests.support.snippets import PAGES, REPOSITORY, Snippet, snippets

pytest.importorskip("ipykernel", reason="needs ipykernel and jupyter_client")
manager = pytest.importorskip("jupyter_client.manager", reason="needs ipykernel and jupyter_client")

# Jupyter's own warnings are not this project's.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.timeout(120)]
_CELL_SECONDS = 60.0
_LIVE_CLASS = """\
import numpy as np

from enqueuer import SequenceEnqueuer


class Cubes:
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return np.array([index**3])


with SequenceEnqueuer(Cubes(), use_multiprocessing=True) as enq:
    enq.start(workers=2)
    for epoch in range(2):
        print([int(batch[0]) for batch in enq.epoch()])
"""


class Notebook:
    """A running kernel in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        commands = directory / "bin"
        commands.mkdir()
        write_command(commands / "python", 'exec "$KERNEL_PYTHON" "$@"')
        variables = {**environment(), "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
        variables["KERNEL_PYTHON"] = sys.executable
        self._kernel, self._client = manager.start_new_kernel(
            startup_timeout=60, kernel_name="python3", cwd=str(directory), env=variables
        )

    def run(self, cell: str) -> str:
        """Run a cell; returns what it prints."""
        printed: list[str] = []

        def collect(message: dict[str, Any]) -> None:
            content = message["content"]
            printed.append(content.get("text") or "\n".join(content.get("traceback", [])))

        answer = self._client.execute_interactive(cell, timeout=_CELL_SECONDS, output_hook=collect)
        assert answer["content"]["status"] == "ok", f"{cell}\n{''.join(printed)}"
        return "".join(printed)

    def close(self) -> None:
        self._client.stop_channels()
        self._kernel.shutdown_kernel(now=False)


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    made = Notebook(tmp_path)
    yield made
    made.close()


def as_cell(block: Snippet) -> str:
    """A page's block as a reader types it into a notebook."""
    if block.file is not None:
        return f"%%writefile {block.file}\n{block.source}"
    return f"%%bash\n{block.source}" if block.language == "sh" else block.source


def is_read(block: Snippet) -> bool:
    return block.reason is None and (block.file is not None or not block.word) and block.language in ("python", "sh")


def test_the_first_steps_run_in_a_notebook(notebook: Notebook) -> None:
    printed = "".join(
        notebook.run(as_cell(block)) for block in snippets(PAGES / "start" / "first-steps.md") if is_read(block)
    )
    assert "(300 batches in all)" in printed


def test_the_local_quick_start_of_the_readme_runs_in_a_notebook(notebook: Notebook) -> None:
    blocks = [block for block in snippets(REPOSITORY / "README.md") if is_read(block) and block.language == "python"]
    assert len(blocks) >= 2
    for block in blocks:
        notebook.run(as_cell(block))


def test_a_class_of_a_notebook_is_computed_by_processes(notebook: Notebook) -> None:
    cubes = [index**3 for index in range(10)]
    assert notebook.run(_LIVE_CLASS) == f"{cubes}\n{cubes}\n"
