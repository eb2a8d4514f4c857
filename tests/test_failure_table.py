"""The guide says what happens when something fails: a test proves each row, and its gap was measured."""

from __future__ import annotations

from tests.support.failure_table import NONE, measured, proofs, rows


def test_every_row_of_the_failure_table_is_proven_by_a_test() -> None:
    assert sorted(set(rows()) - set(proofs())) == []


def test_every_test_that_claims_to_prove_a_row_names_one() -> None:
    assert {case: tests for case, tests in proofs().items() if case not in rows()} == {}


def test_the_gaps_in_the_table_are_those_that_were_measured() -> None:
    assert {case: gap for case, gap in rows().items() if gap != NONE} == measured()
