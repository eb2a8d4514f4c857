"""The table in ``README.md`` names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_each_test_that_the_table_names_is_there() -> None:
    named = re.findall(r"\| `(\w+)::(\w+)` \|", (HERE / "README.md").read_text())
    assert len(named) > 30
    missing = []
    for file, test in named:
        sources = [HERE / f"{kind}_{file}.py" for kind in ("in", "test")]
        if not any(source.exists() and f"def test_{test}(" in source.read_text() for source in sources):
            missing.append(f"{file}::{test}")
    assert missing == []
