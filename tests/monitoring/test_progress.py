from __future__ import annotations

import io
import sys
import threading

import pytest

from enqueuer.monitoring.progress import ProgressBar
from enqueuer.monitoring.stats import Stats


class FakeEnqueuer:
    """Counts the calls of `stats`."""

    def __init__(self, queue_limit: int = 10) -> None:
        self.asked_count = 0
        self._queue_limit = queue_limit

    def stats(self) -> Stats:
        self.asked_count += 1
        return Stats(
            running=True,
            length=45,
            taken_count=3,
            ready_count=7,
            leased_count=2,
            queue_limit=self._queue_limit,
            workers_count=2,
            slots_count=2,
            batches_total=3,
        )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_last_line_says_loss_pace_workers_and_queue():
    out = Terminal()
    with ProgressBar(FakeEnqueuer(), total=3, file=out) as bar:
        for _ in range(3):
            bar.update(loss=0.12345)
    last = out.getvalue().rstrip().rpartition("\r")[2]
    assert "3/3" in last
    assert "batches/s" in last
    assert "loss 0.123, workers 2, queue 7/10" in last


def test_an_unbounded_queue_is_shown_without_a_bound():
    out = Terminal()
    with ProgressBar(FakeEnqueuer(queue_limit=0), total=1, file=out) as bar:
        bar.update()
    assert out.getvalue().rstrip().endswith("workers 2, queue 7]")


def test_a_log_file_is_not_flooded():
    out = io.StringIO()
    enqueuer = FakeEnqueuer()
    with ProgressBar(enqueuer, total=1000, file=out) as bar:
        for _ in range(1000):
            bar.update(loss=1.0)
    # One line when it begins, one when it ends.
    assert out.getvalue().count("\r") <= 3
    assert enqueuer.asked_count == 1


def test_the_bar_leaves_no_thread_behind_and_may_be_closed_twice():
    before = threading.active_count()
    bar = ProgressBar(FakeEnqueuer(), file=Terminal())
    bar.update()
    bar.close()
    bar.close()
    assert threading.active_count() == before


def test_without_tqdm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"pip install 'enqueuer\[demo\]'"):
        ProgressBar(FakeEnqueuer())


def test_in_a_log_each_state_is_a_line_of_its_own():
    out = io.StringIO()
    with ProgressBar(FakeEnqueuer(), total=2, file=out) as bar:
        bar.update(loss=0.5)
        bar.update(loss=0.5)
    first, *_, last = out.getvalue().split("\n")[:-2]
    assert "\r" not in out.getvalue()
    assert "0/2" in first
    assert "2/2" in last
