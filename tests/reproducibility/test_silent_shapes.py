"""Each silent shape is right on two local processes; `silent_cases` has it many times, on three and remote ones too."""

from __future__ import annotations

import pytest

from tests.reproducibility.silent_cases import fault_of, local_stream
from tests.reproducibility.silent_shapes import CASES, Shape

SEED = 5


@pytest.mark.parametrize("case", CASES)
def test_batches_are_those_of_one_worker_and_no_warning_is_logged(
    case: type[Shape], caplog: pytest.LogCaptureFixture
) -> None:
    assert fault_of(case, local_stream(case, SEED, 1), local_stream(case, SEED, 2)) == ""
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []
