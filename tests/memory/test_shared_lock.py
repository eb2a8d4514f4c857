"""A lock between processes: one holder, a bounded wait, and free when its holder dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from enqueuer.memory import shared_lock as module
from enqueuer.memory.shared_lock import make_lock_file, shared_lock


@pytest.fixture
def fd() -> Iterator[int]:
    made = make_lock_file()
    assert made is not None
    yield made
    os.close(made)


class Holder:
    """Another process that holds the lock until `let_go`."""

    def __init__(self, fd: int) -> None:
        ready, told = os.pipe()
        waits, self._let_go = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._let_go)
            with shared_lock(fd):
                os.write(told, b"x")
                os.read(waits, 1)
            os._exit(0)
        os.read(ready, 1)
        for each in (ready, told, waits):
            os.close(each)

    def let_go(self) -> None:
        os.close(self._let_go)
        os.waitpid(self.pid, 0)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.let_go()


def test_a_held_lock_is_awaited_for_a_limited_time(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = Holder(fd)
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.02)
    with pytest.raises(OSError, match="holds the memory lock"), shared_lock(fd):
        pass
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 10.0)
    monkeypatch.setattr(module.time, "sleep", lambda _: holder.let_go())
    with shared_lock(fd):
        pass


def test_a_holder_that_dies_frees_the_lock(fd: int) -> None:
    Holder(fd).kill()
    with shared_lock(fd):
        pass


def test_the_lock_can_be_taken_repeatedly_also_after_an_error(fd: int) -> None:
    for _ in range(3):
        with pytest.raises(KeyError), shared_lock(fd):
            raise KeyError
    Holder(fd).let_go()


def test_a_lock_without_a_file_is_always_free() -> None:
    with shared_lock(None), shared_lock(None):
        pass
