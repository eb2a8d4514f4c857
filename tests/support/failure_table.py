"""The README's table of failures, the tests that say they prove its rows, and the gaps that were measured.

`python -m tests.support.failure_table` writes the measured gaps (``tests/chaos/recovery.json``) into the README.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
README = _TESTS.parent / "README.md"
RECOVERY = _TESTS / "chaos" / "recovery.json"
# A gap that means nothing, or was not measured.
NONE = "–"
_HEAD = "| … | then | longest gap |"
# A row: what happens | what comes of it | the longest gap between two batches that was measured.
_ROW = re.compile(r"^\| (?P<case>.+?) \| (?P<outcome>.+) \| (?P<gap>[^|]*) \|$")


def rows() -> dict[str, str]:
    """What happens -> the gap as the README tells it."""
    found = {}
    for line in _lines_of_the_table(README.read_text().splitlines()):
        match = _ROW.match(line)
        assert match is not None, f"not a row of three cells: {line}"
        found[match["case"]] = match["gap"]
    return found


def _lines_of_the_table(lines: list[str]) -> list[str]:
    start = lines.index(_HEAD) + 2
    end = next(number for number in range(start, len(lines)) if not lines[number].startswith("|"))
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
    """What happens -> its gap as the README is to tell it."""
    return {case: _seconds(gap) for case, gap in json.loads(RECOVERY.read_text()).items()}


def _seconds(gap: float) -> str:
    return f"{gap:.2f} s" if gap < 1 else f"{gap:.1f} s"


def main() -> None:
    gaps = measured()
    lines = README.read_text().splitlines()
    for line in _lines_of_the_table(lines):
        match = _ROW.match(line)
        assert match is not None, line
        lines[lines.index(line)] = f"| {match['case']} | {match['outcome']} | {gaps.get(match['case'], NONE)} |"
    README.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
