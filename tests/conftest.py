"""Settings of all tests, and how they run in parallel (`sh tests/run.sh`: pytest-xdist).

Most tests wait most of the time, so there are more workers of pytest than cores. Tests with the mark ``timing`` assert
how long something takes at most, which a busy machine would falsify. Those of one group run one after the other in one
worker. They come first, at normal priority, so that they have the cores when they want them; a worker lowers its
priority, and so that of all programs it starts, before its first test without the mark.

    worker 0   timing("network")  ───────────────────────► other tests at low priority ─►
    worker 1   timing("processes") ──────────────► other tests at low priority ──────────►
    worker 2…  other tests at low priority ──────────────────────────────────────────────►
"""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# Each test has a deadline of its own. Hypothesis' own limits, a fifth of a second for each example and a second for
# drawing the first ten, say more about the machine.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
_LOW_PRIORITY = 10


def pytest_configure(config: pytest.Config) -> None:
    """Give each worker a temporary directory of its own: tests look for files that were left behind there."""
    if _IS_WORKER:
        directory = tempfile.tempdir = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="tests-")
        config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))


def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``."""
    cores_count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores_count + 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        timing = item.get_closest_marker("timing")
        if timing is not None:
            item.add_marker(pytest.mark.xdist_group(f"timing {timing.args[0]}"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if _IS_WORKER and item.get_closest_marker("timing") is None and os.nice(0) < _LOW_PRIORITY:
        os.nice(_LOW_PRIORITY - os.nice(0))
