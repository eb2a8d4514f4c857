"""Settings of all tests, and how they run in parallel (`sh tests/run.sh`: pytest-xdist).

Most tests wait most of the time, so there are more workers of pytest than cores. Some tests assert how long something
takes at most, which a busy machine would falsify. These come first, in two workers, one after the other, at normal
priority, so that they have the cores when they want them. A worker lowers its priority, and so that of all programs it
starts, before its first other test.

    worker 0   timing of the network ─────────────────► other tests at low priority ─►
    worker 1   timing of processes ─────────────► other tests at low priority ───────►
    worker 2…  other tests at low priority ──────────────────────────────────────────►
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

# Each test has a deadline of its own. Hypothesis' own limits, a fifth of a second for each example and a second for
# drawing the first ten, say more about the machine.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# Files whose tests run one after the other in one worker. Not pytest-xdist's own groups: pytest 9.2 ignores them.
_GROUPS = {
    "network": """
        tests/chaos/test_middlebox.py tests/chaos/test_network_faults.py tests/chaos/test_network_trainer_restart.py
        tests/chaos/test_soak.py tests/integration/test_network_namespaces.py tests/runtime/test_local_threads.py
        tests/worker/supervisor/test_time_limit.py
        """,
    "processes": """
        tests/chaos/test_deadly_items.py tests/chaos/test_hanging_items.py tests/chaos/test_joining_and_leaving.py
        tests/chaos/test_killed_processes.py tests/chaos/test_stopped_processes.py tests/chaos/test_trainers.py
        """,
    # One trainer serves all tests of the file, and each meets what the one before has left.
    "attacks": "tests/hostile/test_attacks.py",
    "prometheus": "tests/deploy/test_monitoring.py",
    "liars": "tests/hostile/test_liars.py",
    # One cluster serves all of them.
    "slurm": "tests/engines/test_slurm.py",
}
_GROUP_OF = {path: group for group, paths in _GROUPS.items() for path in paths.split()}
assert all(Path(__file__).parents[1].joinpath(path).exists() for path in _GROUP_OF)
_TIMING = ("network", "processes")

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
    return cores_count + 3  # the two that begin with what asserts times leave half of the cores idle meanwhile


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """A scheduler that gives out groups, the largest first, then single tests."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group_of(nodeid) or nodeid

    return Scheduling(config, log)


def pytest_collection_finish() -> None:
    """Take what was collected, half a million objects, out of the garbage collector's walks: many tests ask for one."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if _IS_WORKER and _group_of(item.nodeid) not in _TIMING and os.nice(0) < _LOW_PRIORITY:
        os.nice(_LOW_PRIORITY - os.nice(0))


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a worker or a command that ran in this process has set: other tests read the same loggers."""
    yield
    logging.disable(logging.NOTSET)
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] == "enqueuer" and isinstance(logger, logging.Logger):
            logger.setLevel(logging.NOTSET)
            logger.propagate = True
            for handler in logger.handlers[:]:
                logger.removeHandler(handler)


def _group_of(nodeid: str) -> str | None:
    return _GROUP_OF.get(nodeid.partition("::")[0])
