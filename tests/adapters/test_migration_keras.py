"""The programs of the guide's page on Keras, tf-keras and tf.data run as they stand, and so does the example."""

from __future__ import annotations

from pathlib import Path

from tests.support.frameworks import require_frameworks, run_program
from tests.support.remote import REPOSITORY
from tests.support.snippets import PAGES, Snippet, snippets, write_modules

PAGE = PAGES / "how-to" / "keras.md"
# One after another in one interpreter, which takes longer to load its framework than to run them.
KERAS, TENSORFLOW = ("keras",), ("tf_keras", "tensorflow")
EXAMPLE = REPOSITORY / "examples" / "keras_digits.py"


def programs(*words: str) -> list[str]:
    found = [snippet.source for snippet in snippets(PAGE) if snippet.word in words]
    assert found
    return found


def run_together(sources: list[str], directory: Path, then: str = "", **variables: str) -> str:
    write_modules(PAGE, directory)
    for number, source in enumerate(sources):
        (directory / f"program_{number}.py").write_text(source)
    together = (
        f"import runpy\nfor n in range({len(sources)}): runpy.run_path(f'program_{{n}}.py', run_name='__main__')\n"
    )
    return run_program(["-W", "error::UserWarning", "-c", together + then], directory, **variables)


def test_the_pages_tensorflow_programs_run(tmp_path: Path) -> None:
    require_frameworks(*TENSORFLOW)
    run_together(programs(*TENSORFLOW), tmp_path, TF_USE_LEGACY_KERAS="1")


def test_the_pages_keras_programs_run_and_the_example_learns_from_two_processes_and_a_remote_worker(
    tmp_path: Path,
) -> None:
    require_frameworks(*KERAS, "jax")
    example = (
        f"import sys\nsys.path.insert(0, {str(EXAMPLE.parent)!r})\n"
        f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    )
    printed = run_together(programs(*KERAS), tmp_path, example, KERAS_BACKEND="jax")
    *workers, last = printed.splitlines()[-4:]
    assert all(int(line.split(": ")[1].removesuffix(" batches")) > 0 for line in workers), printed
    assert float(last.removeprefix("accuracy: ")) > 0.95


def test_every_block_of_the_page_says_what_it_needs_and_is_run() -> None:
    def is_run(snippet: Snippet) -> bool:
        known = {*KERAS, *TENSORFLOW, "torch", "jax", "datasets"}
        return snippet.word in known or snippet.word.startswith("file=") or snippet.language != "python"

    assert [snippet for snippet in snippets(PAGE) if not is_run(snippet)] == []
