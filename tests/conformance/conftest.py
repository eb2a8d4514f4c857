"""The placements of the conformance tests: threads, local processes, a remote worker on loopback TCP.

One remote worker program serves all remote tests: it finds the next session at the same address by itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.journal import Gate, Journal
from tests.support.placement import Placement
from tests.support.remote import RemoteWorker, free_address
from tests.support.sequences import HOOKS

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shorten the time-out of each test: these tests look for hangs."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(60))


class RemoteFleet:
    """The remote worker program, started on first use and again if it has died."""

    def __init__(self, directory: Path) -> None:
        self.address = free_address()
        self._directory = directory
        self._worker: RemoteWorker | None = None

    def ensure(self) -> RemoteWorker:
        if self._worker is None or not self._worker.alive():
            # A trainer that is gone is not waited for at the end.
            arguments = ("--drain-timeout", "2")
            self._worker = RemoteWorker(self.address, self._directory / "remote_worker.log", arguments=arguments)
        return self._worker

    def stop(self) -> None:
        if self._worker is not None:
            self._worker.stop()


@pytest.fixture(scope="session")
def remote_fleet() -> Iterator[RemoteFleet]:
    with tempfile.TemporaryDirectory() as directory:
        fleet = RemoteFleet(Path(directory))
        yield fleet
        fleet.stop()


def _placement(request: pytest.FixtureRequest) -> Iterator[Placement]:
    address = None
    if request.param == "remote":
        fleet: RemoteFleet = request.getfixturevalue("remote_fleet")
        fleet.ensure()
        address = fleet.address
    made = Placement(request.param, address)
    yield made
    made.stop_all()


@pytest.fixture(params=["threads", "processes", "remote"])
def placement(request: pytest.FixtureRequest) -> Iterator[Placement]:
    """Every placement."""
    yield from _placement(request)


@pytest.fixture(params=["threads", "processes"])
def live_placement(request: pytest.FixtureRequest) -> Iterator[Placement]:
    """The placements that compute with the caller's own object or a copy of it."""
    yield from _placement(request)


@pytest.fixture(params=["processes", "remote"])
def separate_placement(request: pytest.FixtureRequest) -> Iterator[Placement]:
    """The placements that compute outside the trainer's process."""
    yield from _placement(request)


@pytest.fixture
def threads() -> Iterator[Placement]:
    made = Placement("threads")
    yield made
    made.stop_all()


@pytest.fixture
def processes() -> Iterator[Placement]:
    made = Placement("processes")
    yield made
    made.stop_all()


@pytest.fixture(params=["remote"])
def remote(request: pytest.FixtureRequest) -> Iterator[Placement]:
    yield from _placement(request)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path / "journal"))


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate that opens when the test is over, before its placement stops, so that no worker stays at it."""
    made = Gate(str(tmp_path / "gate"))
    yield made
    made.open()


@pytest.fixture
def hook() -> Iterator[Callable[[Callable[[Any], None]], str]]:
    """``hook(function)`` puts the function where `Hooked` finds it, and returns its name there."""
    names: list[str] = []

    def put(function: Callable[[Any], None]) -> str:
        names.append(f"hook {len(names)}")
        HOOKS[names[-1]] = function
        return names[-1]

    yield put
    for name in names:
        del HOOKS[name]
