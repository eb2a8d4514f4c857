"""A fleet on a real, small Ray cluster; `python -m tests.engines.ray_cluster` has the other parts."""

from __future__ import annotations

import os
import re
import sys
from importlib.util import find_spec

import pytest

from enqueuer import SequenceEnqueuer
from enqueuer.engines.ray import RayFleet
from tests.engines.ray.sequences import Noise
from tests.support.remote import REPOSITORY
from tests.support.scripts import run_python

HAS_RAY = find_spec("ray") is not None
SMOKE_SECONDS = 380.0


@pytest.mark.timeout(400)
def test_a_fleet_on_two_raylets_of_which_one_is_killed_delivers_every_batch_in_order_and_leaves_nothing() -> None:
    if not HAS_RAY:
        # CI sets this: there, a skipped test is a failed one.
        if os.environ.get("REQUIRE_RAY"):
            pytest.fail("needs Ray: pip install 'enqueuer[ray]'")
        pytest.skip("needs Ray: pip install 'enqueuer[ray]'")
    printed = run_python(["-m", "tests.engines.ray_cluster", "--smoke"], REPOSITORY, SMOKE_SECONDS)
    print(printed)
    assert len(re.findall("left: 0 actors, 0 processes", printed)) == 3


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        SequenceEnqueuer(Noise(4), bind="tcp://127.0.0.1:*") as enq,
        pytest.raises(ModuleNotFoundError, match=r"pip install 'enqueuer\[ray\]'"),
    ):
        RayFleet(enq, max_workers=1)


@pytest.mark.skipif(not HAS_RAY, reason="needs Ray")
def test_ray_is_to_be_initialised_by_the_user() -> None:
    source = """
from enqueuer import SequenceEnqueuer
from enqueuer.engines.ray import RayFleet
with SequenceEnqueuer([1, 2], bind="tcp://127.0.0.1:*") as enq:
    try:
        RayFleet(enq, max_workers=1)
    except RuntimeError as error:
        print(error)
"""
    assert "call ray.init()" in run_python(["-c", source], REPOSITORY, 100.0)
