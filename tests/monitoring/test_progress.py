from __future__ import annotations

import io
import sys
import threading
from typing import Any

import pytest

from enqueuer.core.verdict import Cause, Verdict
from enqueuer.monitoring.progress import TERMINAL_INTERVAL, ProgressBar
from enqueuer.monitoring.stats import Stats
from enqueuer.monitoring.verdict_word import limit_word


class FakeEnqueuer:
    """Counts the calls of `stats`."""

    def __init__(self, cause: Cause = Cause.TOO_EARLY) -> None:
        self.asked_count = 0
        self.cause = cause

    def stats(self) -> Stats:
        self.asked_count += 1
        return Stats(
            running=True,
            length=45,
            taken_count=3,
            ready_count=7,
            leased_count=2,
            queue_limit=10,
            workers_count=1,
            slots_count=2,
            batches_total=3,
            elapsed_seconds=6.0,
            startup_seconds=2.0,
            wait_seconds=3.0,
            startup_wait_seconds=2.0,
            verdict=Verdict(self.cause, 0.25, None, "a sentence"),
        )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_last_line_has_rate_loss_workers_and_the_share_of_waiting():
    out = Terminal()
    with ProgressBar(FakeEnqueuer(), total=3, file=out) as bar:
        for _ in range(3):
            bar.update(loss=0.12345)
    last = out.getvalue().rstrip().rpartition("\r")[2]
    assert "3/3" in last
    assert last.endswith(", 0.5 batches/s, loss 0.123, workers 2, waited 25%]")
    assert last.count("/s") == 1, "one rate, the enqueuer's own"


@pytest.mark.parametrize(("cause", "word"), [(Cause.WORKERS, "workers"), (Cause.NOTHING, "trainer")])
def test_the_verdict_is_shown_in_a_word(cause: Cause, word: str):
    out = Terminal()
    with ProgressBar(FakeEnqueuer(cause), total=1, file=out) as bar:
        bar.update()
    assert out.getvalue().rstrip().endswith(f", waited 25%, limit: {word}]")


def test_every_cause_but_the_first_has_a_word():
    assert [cause for cause in Cause if not limit_word(cause)] == [Cause.TOO_EARLY]


def test_before_the_first_batch_the_bar_says_so():
    out = Terminal()
    with ProgressBar(FakeEnqueuer(), total=3, file=out):
        assert out.getvalue().rstrip().endswith("waiting for the first batch]")


def test_the_bars_clock_begins_with_the_first_batch():
    with ProgressBar(FakeEnqueuer(), total=3, file=Terminal()) as bar:
        began = bar._bar.start_t
        bar.update()
        assert bar._bar.start_t > began
        began = bar._bar.start_t
        bar.update()
        assert bar._bar.start_t == began


def test_without_a_total_the_batches_are_counted():
    out = Terminal()
    with ProgressBar(FakeEnqueuer(), file=out) as bar:
        bar.update()
    assert out.getvalue().rstrip().rpartition("\r")[2].startswith("1 batches [")


def test_in_a_notebook_without_widgets_each_state_replaces_the_last_one():
    class OutStream(io.StringIO):
        """As a kernel's stderr, which is no terminal."""

    OutStream.__module__ = "ipykernel.iostream"
    out = OutStream()
    with ProgressBar(FakeEnqueuer(), total=1, file=out) as bar:
        bar.update()
    assert "\r" in out.getvalue()


def test_in_a_notebook_a_widget_is_drawn_and_often(monkeypatch: pytest.MonkeyPatch):
    from tqdm import auto, std

    made: list[dict[str, Any]] = []

    class Notebook(std.tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            made.append(options)
            super().__init__(*arguments, **options | {"file": io.StringIO()})

    Notebook.__module__ = "tqdm.notebook"
    monkeypatch.setattr(auto, "tqdm", Notebook)
    with ProgressBar(FakeEnqueuer(), total=3) as bar:
        bar.update()
    assert made[0]["mininterval"] == TERMINAL_INTERVAL
    ProgressBar(FakeEnqueuer(), file=io.StringIO()).close()
    assert len(made) == 1, "a given file gets text"


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
    with pytest.raises(ImportError, match=r"pip install 'enqueuer\[progress\]'"):
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
