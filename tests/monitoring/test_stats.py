from __future__ import annotations

import inspect
import re
from dataclasses import fields

import pytest

from enqueuer import OffenderStats, Stats, WorkerInfo, WorkerStats


@pytest.mark.parametrize("table", [Stats, WorkerStats, OffenderStats, WorkerInfo])
def test_each_field_has_its_sentence_in_the_docstring_in_the_same_order(table: type) -> None:
    described = inspect.cleandoc(table.__doc__ or "").partition("Attributes:\n")[2]
    assert re.findall(r"^    (\w+): \S.*", described, re.MULTILINE) == [field.name for field in fields(table)]
