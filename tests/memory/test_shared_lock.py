"""A lock between processes: held by one, waited for but not for ever, free when its holder dies."""

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
    """Another process, which has the lock until it is told otherwise."""

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


def test_who_holds_it_is_waited_for_but_not_for_ever(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = Holder(fd)
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.02)
    with pytest.raises(OSError, match="takes its time"), shared_lock(fd):
        pass
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 10.0)
    monkeypatch.setattr(module.time, "sleep", lambda _: holder.let_go())
    with shared_lock(fd):
        pass


def test_a_holder_that_dies_frees_it(fd: int) -> None:
    Holder(fd).kill()
    with shared_lock(fd):
        pass


def test_it_can_be_taken_again_and_again_also_after_an_error(fd: int) -> None:
    for _ in range(3):
        with pytest.raises(KeyError), shared_lock(fd):
            raise KeyError
    Holder(fd).let_go()


def test_where_there_is_no_such_file_it_is_always_free() -> None:
    with shared_lock(None), shared_lock(None):
        pass
