"""What can be known of the Dockerfile without an engine."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support.remote import REPOSITORY


@pytest.mark.parametrize(("extras", "requirement"), [("", "."), ("demo", ".[demo]"), ("demo,torch", ".[demo,torch]")])
def test_the_extras_of_a_build_are_a_requirement_that_pip_accepts(extras: str, requirement: str) -> None:
    """pip refuses ``.[]``."""
    dockerfile = (REPOSITORY / "deploy" / "Dockerfile").read_text()
    (argument,) = re.findall(r'pip install ("\.[^"]+")', dockerfile)
    expanded = subprocess.run(
        ["sh", "-c", f"printf %s {argument}"], env={"EXTRAS": extras}, capture_output=True, text=True, check=True
    )
    assert expanded.stdout == requirement
