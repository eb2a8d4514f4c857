"""The guide's table of failures, the tests that claim to prove its rows, and the measured gaps.

`python -m tests.support.failure_table` writes the measured gaps (``tests/chaos/recovery.json``) into the table.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
PAGE = _TESTS.parent / "docs" / "pages" / "explanation" / "guarantees.md"
RECOVERY = _TESTS / "chaos" / "recovery.json"
# The gap of a row that has none, or whose gap was not measured.
NONE = "–"
_HEAD = "| when … | then | longest gap |"
# A row: what happens | what follows | the longest measured gap between two batches.
_ROW = re.compile(r"^\| (?P<case>.+?) \| (?P<outcome>.+) \| (?P<gap>[^|]*) \|$")


def rows() -> dict[str, str]:
    """What happens -> the gap in the table."""
    found = {}
    for line in _lines_of_the_table(PAGE.read_text().splitlines()):
        match = _ROW.match(line)
        assert match is not None, f"not a row of three cells: {line}"
        found[match["case"]] = match["gap"]
    return found


def _lines_of_the_table(lines: list[str]) -> list[str]:
    start = lines.index(_HEAD) + 2
    end = next((number for number in range(start, len(lines)) if not lines[number].startswith("|")), len(lines))
    return lines[start:end]


def proofs() -> dict[str, list[str]]:
    """What happens -> the tests marked with it."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(_TESTS.rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                for decorator in node.decorator_list:
                    case = _case(decorator, constants)
                    if case is not None:
                        found[case].append(f"{path.relative_to(_TESTS.parent)}::{node.name}")
    return found


def _case(decorator: ast.expr, constants: dict[str, object]) -> str | None:
    if not (isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.proves"):
        return None
    (argument,) = decorator.args
    value = constants[argument.id] if isinstance(argument, ast.Name) else ast.literal_eval(argument)
    assert isinstance(value, str)
    return value


def measured() -> dict[str, str]:
    """What happens -> its measured gap, as the table writes it."""
    return {case: _seconds(gap) for case, gap in json.loads(RECOVERY.read_text()).items()}


def _seconds(gap: float) -> str:
    return f"{gap:.2f} s" if gap < 1 else f"{gap:.1f} s"


def main() -> None:
    gaps = measured()
    lines = PAGE.read_text().splitlines()
    for line in _lines_of_the_table(lines):
        match = _ROW.match(line)
        assert match is not None, line
        lines[lines.index(line)] = f"| {match['case']} | {match['outcome']} | {gaps.get(match['case'], NONE)} |"
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
