"""Code that travels by value keeps its file name and lines, and its name in ``__main__``."""

from __future__ import annotations

import linecache
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enqueuer.protocol import script_code
from enqueuer.protocol.live_object import pack_object, unpack_object
from tests.support.scripts import run_command, run_script


@pytest.fixture(autouse=True)
def lines() -> Iterator[None]:
    """Forget what a test gave to `linecache`."""
    before = dict(linecache.cache)
    yield
    linecache.cache.clear()
    linecache.cache.update(before)
    script_code._added.clear()
    script_code._first_texts.clear()


def compiled(source: str, name: str, *, shown: bool = True) -> dict[str, Any]:
    """What a notebook's cell of this source defines; its lines are known only to `linecache`."""
    if shown:
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), names)
    return names


def traceback_of(function: Any) -> str:
    try:
        function()
    except Exception:
        return traceback.format_exc()
    raise AssertionError("no error")


CELL = """
def fail():
    def inner():
        raise LookupError("here")  # the line
    return [inner() for _ in range(1)]
"""


def test_a_cells_lines_are_shown_where_only_the_pickle_has_them() -> None:
    parts = pack_object(compiled(CELL, "<ipython-input-3>")["fail"])
    linecache.cache.clear()
    text = traceback_of(unpack_object(parts))
    assert 'File "<ipython-input-3>", line 4, in inner' in text
    assert 'raise LookupError("here")  # the line' in text


def test_the_lines_stay_when_the_cache_looks_for_files() -> None:
    back = unpack_object(pack_object(compiled(CELL, "/no/such/train.py")["fail"]))
    linecache.checkcache()
    assert "# the line" in traceback_of(back)


def test_a_file_is_in_the_pickle_once() -> None:
    source = "\n".join(f"def f{number}(): pass  # a marked line {number}" for number in range(20))
    names = compiled(source, "/script.py")
    stream = bytes(pack_object([names[f"f{number}"] for number in range(20)])[0])
    assert stream.count(b"a marked line 7") == 1


def test_an_edited_file_is_shown_as_it_was_and_packs_to_the_same_parts(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(CELL)
    function = compiled(CELL, str(path), shown=False)["fail"]
    before = bytes(pack_object(function)[0])
    path.write_text("# another text\n" * 9)
    linecache.checkcache()
    assert bytes(pack_object(function)[0]) == before
    assert "# the line" in traceback_of(unpack_object([memoryview(before)]))


def test_a_file_that_is_too_long_travels_as_its_name() -> None:
    source = CELL + "#" * script_code.FILE_LIMIT_CHARS
    parts = pack_object(compiled(source, "/long.py")["fail"])
    assert len(parts[0]) < 3000
    linecache.cache.clear()
    assert 'File "/long.py", line 4, in inner' in traceback_of(unpack_object(parts))


def test_files_of_one_pickle_are_bounded() -> None:
    source = CELL + "#" * (script_code.FILE_LIMIT_CHARS - 1000)
    functions = [compiled(source, f"/part{number}.py")["fail"] for number in range(20)]
    assert len(pack_object(functions)[0]) < script_code.FILES_LIMIT_CHARS + 100_000


def test_what_a_worker_keeps_of_files_is_bounded_and_the_newest_stay() -> None:
    for number in range(script_code.FILES_LIMIT_COUNT + 10):
        script_code.add_source(f"/cell {number}", "pass\n")
    assert "/cell 3" not in linecache.cache
    assert linecache.getline(f"/cell {script_code.FILES_LIMIT_COUNT + 9}", 1) == "pass\n"
    for number in range(12):
        script_code.add_source(f"/large {number}", "#" * script_code.FILE_LIMIT_CHARS)
    assert sum(f"/large {number}" in linecache.cache for number in range(12)) == 4
    script_code.add_source("/huge", "#" * (script_code.FILE_LIMIT_CHARS + 1))
    assert "/huge" not in linecache.cache


def test_in_a_trainer_nothing_is_put_into_main() -> None:
    main = vars(sys.modules["__main__"])
    before = dict(main)
    unpack_object(pack_object(compiled("def only_here(): pass", "/s.py")["only_here"]))
    assert dict(main) == before


SHOWN = """
import logging, sys, warnings
from enqueuer import SequenceEnqueuer

def checked(index):
    if index == 1:
        warnings.warn("odd batch")  # the warned line
        raise LookupError("missing")  # the failed line
    return index

class Failing:
    def __len__(self):
        return 2
    def __getitem__(self, index):
        return [checked(index) for _ in range(1)][0]

with SequenceEnqueuer(Failing(), USE_PROCESSES) as enq:
    enq.start(1)
    stream = enq.get()
    next(stream)
    try:
        next(stream)
    except LookupError as error:
        sys.stdout.write(getattr(error.__cause__, "remote_traceback", "") or "threads")
"""


def test_a_workers_traceback_shows_the_scripts_files_and_lines(tmp_path: Path) -> None:
    shown = run_script(SHOWN.replace("USE_PROCESSES", "True"), tmp_path)
    assert f'File "{tmp_path / "script.py"}", line 8, in checked' in shown
    assert 'raise LookupError("missing")  # the failed line' in shown
    assert "dynamic-code" not in shown


def test_a_program_without_a_file_works_and_has_no_lines(tmp_path: Path) -> None:
    shown = run_command(SHOWN.replace("USE_PROCESSES", "True"), tmp_path)
    assert 'File "<string>", line 8, in checked' in shown
