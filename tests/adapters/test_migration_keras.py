"""The migration page's programs for Keras, tf-keras and tf.data run as they stand, and so does the example."""

from __future__ import annotations

from pathlib import Path

import pytest

import enqueuer.adapters
from tests.support.frameworks import require_frameworks, run_program
from tests.support.snippets import Snippet, snippets, write_modules

PAGE = Path(enqueuer.adapters.__file__).with_name("README.md")
FRAMEWORKS = {"keras": ("keras", "jax"), "tf_keras": ("tf_keras",), "tensorflow": ("tensorflow",)}
MINE = [snippet for snippet in snippets(PAGE) if snippet.word in FRAMEWORKS]


@pytest.mark.parametrize("word", FRAMEWORKS)
def test_the_pages_programs_run(word: str, tmp_path: Path) -> None:
    require_frameworks(*FRAMEWORKS[word])
    write_modules(PAGE, tmp_path)
    programs = [snippet for snippet in MINE if snippet.word == word]
    assert programs
    # One after another in one interpreter, which takes longer to load its framework than to run them.
    for number, program in enumerate(programs):
        (tmp_path / f"program_{number}.py").write_text(program.source)
    source = f"import runpy\nfor n in range({len(programs)}): runpy.run_path(f'program_{{n}}.py', run_name='__main__')"
    variables = {"KERAS_BACKEND": "jax"} if word == "keras" else {}
    run_program(["-W", "error::UserWarning", "-c", source], tmp_path, **variables)


def test_every_block_of_the_page_says_what_it_needs_and_is_run() -> None:
    def is_run(snippet: Snippet) -> bool:
        return snippet.word in {*FRAMEWORKS, "torch", "jax", "datasets", "none"} or snippet.word.startswith("file=")

    assert [snippet for snippet in snippets(PAGE) if not is_run(snippet)] == []


def test_the_keras_example_learns_the_digits_from_two_processes_and_a_remote_worker(tmp_path: Path) -> None:
    require_frameworks("keras", "jax")
    printed = run_program(["-m", "enqueuer.adapters.examples.keras_digits"], tmp_path, KERAS_BACKEND="jax")
    *workers, last = printed.splitlines()[-4:]
    assert all(int(line.split(": ")[1].removesuffix(" batches")) > 0 for line in workers), printed
    assert float(last.removeprefix("accuracy: ")) > 0.95
