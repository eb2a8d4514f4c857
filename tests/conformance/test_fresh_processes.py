"""Local processes are interpreters of their own: they lack what the script did in its own, and keep what they do."""

from __future__ import annotations

import codecs
import importlib
import multiprocessing
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from enqueuer import EnqueuerError, SequenceEnqueuer
from tests.support.waiting import wait_until

CODEC = "backwards_of_test"


def _find(name: str) -> codecs.CodecInfo | None:
    if name != CODEC:
        return None
    return codecs.CodecInfo(lambda text, errors="strict": (text[::-1].encode(), len(text)), codecs.utf_8_decode)


def register() -> None:
    """For ``worker_init=``."""
    codecs.register(_find)


class Encoded:
    """Uses a codec that the script registered."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> bytes:
        return f"{index}!".encode(CODEC)


class Settings:
    """The settings of the interpreter that computes."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _: int) -> tuple[object, ...]:
        return interpreter_settings()


def interpreter_settings() -> tuple[object, ...]:
    return (
        list(map(str, sys.argv)),
        sys.getrecursionlimit(),
        sys.get_int_max_str_digits() if sys.version_info >= (3, 11) else None,
        multiprocessing.get_start_method(),
        socket.getdefaulttimeout(),
    )


class Alarmed:
    """Limits the time of an item by an alarm, and forgets to take it off."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        def ring(*_: object) -> None:
            (self.folder / str(os.getpid())).touch()
            raise TimeoutError("reading took too long")

        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        return index


@pytest.fixture
def registered() -> Iterator[None]:
    register()
    yield
    codecs.unregister(_find)


@pytest.mark.usefixtures("registered")
def test_a_plug_in_that_the_script_registered_is_told_to_be_missing_in_workers_and_worker_init_is_the_cure() -> None:
    with SequenceEnqueuer(Encoded(), True, worker_init=register) as enqueuer:
        enqueuer.start(2)
        assert list(enqueuer.epoch()) == [b"!0", b"!1", b"!2"]
    with SequenceEnqueuer(Encoded(), True) as enqueuer:
        enqueuer.start(1)
        with pytest.raises(LookupError, match=CODEC) as caught:
            next(enqueuer.get())
    assert "worker" in str(caught.value.__cause__)


def test_a_module_from_a_folder_that_has_left_the_path_is_named_with_a_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "momentary_of_test.py").write_text(
        "class Reader:\n    def __len__(self): return 4\n    def __getitem__(self, index): return index + 1\n"
    )
    with monkeypatch.context() as moment:
        moment.syspath_prepend(str(tmp_path))
        reader = importlib.import_module("momentary_of_test").Reader()
    try:
        with SequenceEnqueuer(reader, True) as enqueuer:
            try:
                enqueuer.start(1)
                assert list(enqueuer.epoch()) == [1, 2, 3, 4]
            except (EnqueuerError, ImportError) as error:
                told = f"{error} {error.__cause__} {getattr(error, '__notes__', '')}"
                assert "momentary_of_test" in told
                assert re.search("path|worker_init|install", told)
    finally:
        del sys.modules["momentary_of_test"]


def test_settings_of_the_interpreter_are_the_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [Path("train.py"), "--size", 5])
    before = interpreter_settings()
    try:
        sys.setrecursionlimit(4321)
        if sys.version_info >= (3, 11):
            sys.set_int_max_str_digits(0)
        multiprocessing.set_start_method("forkserver", force=True)
        socket.setdefaulttimeout(3.5)
        with SequenceEnqueuer(Settings(), True) as enqueuer:
            enqueuer.start(1)
            assert next(enqueuer.get()) == interpreter_settings() != before
    finally:
        sys.setrecursionlimit(before[1])  # type: ignore[arg-type]
        if sys.version_info >= (3, 11):
            sys.set_int_max_str_digits(before[2])  # type: ignore[arg-type]
        multiprocessing.set_start_method(None, force=True)
        socket.setdefaulttimeout(before[4])  # type: ignore[arg-type]


def test_an_alarm_that_an_item_left_behind_costs_no_batch(tmp_path: Path) -> None:
    with SequenceEnqueuer(Alarmed(tmp_path), True, prefetch_epochs=False) as enqueuer:
        enqueuer.start(1)
        assert list(enqueuer.epoch()) == [0, 1, 2, 3]
        wait_until(lambda: any(tmp_path.iterdir()), 60.0, "that the alarm rings")
        assert list(enqueuer.epoch()) == [0, 1, 2, 3]
