"""The adapters without their frameworks."""

from __future__ import annotations

from pathlib import Path

import pytest

from enqueuer.adapters._frameworks import raise_for_framework
from tests.support.scripts import run_command

# None in sys.modules hides a module, be it installed or not.
PROGRAM = """
import sys
sys.modules["{framework}"] = None
from enqueuer import SequenceEnqueuer
try:
    {use}
except ModuleNotFoundError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("framework", "use"),
    [
        ("torch", "import enqueuer.adapters.torch"),
        ("jax", "import enqueuer.adapters.jax"),
        ("datasets", "import enqueuer.adapters.datasets"),
        ("keras", "from enqueuer.adapters.keras import as_dataset; as_dataset(SequenceEnqueuer([1]))"),
        ("tensorflow", "from enqueuer.adapters.tensorflow import as_dataset; as_dataset(SequenceEnqueuer([1]))"),
    ],
)
def test_the_error_for_a_missing_framework_names_the_extra_to_install(tmp_path: Path, framework: str, use: str) -> None:
    printed = run_command(PROGRAM.format(framework=framework, use=use), tmp_path)
    assert printed == f"{framework} is not installed: pip install 'enqueuer[{framework}]'\n"


def test_the_error_for_a_missing_part_of_a_framework_is_left_alone() -> None:
    raise_for_framework(ModuleNotFoundError("No module named 'jaxlib'", name="jaxlib"))
    raise_for_framework(ModuleNotFoundError("torch needs something"))
