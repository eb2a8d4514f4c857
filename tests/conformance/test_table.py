"""The table in ``README.md`` names every test here, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent


def test_the_table_names_every_conformance_test_and_no_other() -> None:
    written = re.findall(r"\| `(\w+::\w+)` \|", (HERE / "README.md").read_text())
    there = [
        f"{path.stem.removeprefix('test_')}::{node.name.removeprefix('test_')}"
        for path in HERE.glob("test_*.py")
        if path != Path(__file__)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert sorted(written) == sorted(there)
