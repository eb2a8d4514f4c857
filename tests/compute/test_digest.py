import sys
from types import ModuleType

import pytest

from enqueuer.compute import digest
from enqueuer.compute.digest import sequence_digest


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Makes packages below a directory of the import path, with an empty cache."""
    monkeypatch.syspath_prepend(tmp_path)
    digest._source_digest.cache_clear()

    def write(**files):
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        digest._source_digest.cache_clear()

    yield write
    digest._source_digest.cache_clear()


def test_equal_code_and_arguments_have_one_digest_whatever_the_order_of_the_arguments(project):
    project(digested__data="x = 1")
    first = sequence_digest("digested.data:f", {"a": 1, "b": {"c": 2, "d": [3]}})
    assert first == sequence_digest("digested.data:f", {"b": {"d": [3], "c": 2}, "a": 1})
    assert len(first) == digest.DIGEST_BYTES


def test_another_target_or_argument_has_another_digest(project):
    project(digested__data="x = 1")
    digests = {
        sequence_digest("digested.data:f", {}),
        sequence_digest("digested.data:g", {}),
        sequence_digest("digested.data:f", {"a": 1}),
        sequence_digest("digested.data:f", {"a": True}),
    }
    assert len(digests) == 4


def test_any_source_file_of_the_package_counts_by_name_and_content(project):
    project(digested__data="x = 1", digested__sub__deep="y = 1")
    before = sequence_digest("digested.data:f", {})
    project(digested__sub__deep="y = 2")
    changed = sequence_digest("digested.data:f", {})
    project(digested__sub__deep="y = 1", digested__more="")
    added = sequence_digest("digested.data:f", {})
    assert len({before, changed, added}) == 3


def test_caches_and_hidden_folders_do_not_count(project, tmp_path):
    project(digested__data="x = 1")
    before = sequence_digest("digested.data:f", {})
    for folder in (".venv", "__pycache__"):
        (tmp_path / "digested" / folder).mkdir()
        (tmp_path / "digested" / folder / "other.py").write_text("z = 1")
    (tmp_path / "digested" / "notes.txt").write_text("text")
    digest._source_digest.cache_clear()
    assert sequence_digest("digested.data:f", {}) == before


def test_the_directory_of_the_package_does_not_count(project, tmp_path, monkeypatch):
    project(digested__data="x = 1")
    before = sequence_digest("digested.data:f", {})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "digested").rename(elsewhere / "digested")
    monkeypatch.syspath_prepend(elsewhere)
    digest._source_digest.cache_clear()
    assert sequence_digest("digested.data:f", {}) == before


def test_a_single_module_is_its_own_file(project):
    project(digested_alone="x = 1")
    before = sequence_digest("digested_alone:f", {})
    project(digested_alone="x = 2", digested_other="x = 1")
    assert before != sequence_digest("digested_alone:f", {}) != b""


def test_the_source_is_read_once(project, tmp_path):
    project(digested__data="x = 1")
    before = sequence_digest("digested.data:f", {})
    (tmp_path / "digested" / "data.py").write_text("x = 2")
    assert sequence_digest("digested.data:f", {}) == before


def test_no_more_than_the_limit_is_read(project, monkeypatch):
    monkeypatch.setattr(digest, "SOURCE_LIMIT_BYTES", 10)
    project(digested__a="x" * 8, digested__b="y" * 8, digested__c="z")
    before = sequence_digest("digested.a:f", {})
    project(digested__c="another")
    assert sequence_digest("digested.a:f", {}) == before
    project(digested__b="zzz")
    assert sequence_digest("digested.a:f", {}) != before


@pytest.mark.parametrize("target", ["no_such_module_anywhere:f", "math:sqrt", "sys:exit"])
def test_code_without_source_has_no_digest(target):
    assert sequence_digest(target, {}) == b""


def test_a_module_made_at_run_time_has_no_digest(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "handmade_example", ModuleType("handmade_example"))
    assert sequence_digest("handmade_example:f", {}) == b""
