"""Lines of user code, forwarded to the trainer."""

from __future__ import annotations

import io
import logging
import threading

import pytest

from enqueuer_worker.process.log_forwarding import LINES_PER_SECOND, LimitedSink, LineTee

Line = tuple[int, str, str]


class Sink:
    def __init__(self) -> None:
        self.lines: list[Line] = []

    def __call__(self, level: int, logger: str, text: str) -> None:
        self.lines.append((level, logger, text))


def test_a_flood_of_lines_is_cut_and_counted() -> None:
    sink, now = Sink(), [10.0]
    limited = LimitedSink(sink, clock=lambda: now[0])
    for number in range(LINES_PER_SECOND + 5):
        limited(logging.INFO, "stdout", str(number))
    assert len(sink.lines) == LINES_PER_SECOND
    now[0] = 11.0
    limited(logging.INFO, "stdout", "later")
    assert sink.lines[-2:] == [
        (logging.WARNING, "enqueuer.worker", "5 lines dropped"),
        (logging.INFO, "stdout", "later"),
    ]


def test_the_dropped_lines_of_a_flood_are_reported_once_a_second() -> None:
    sink = Sink()
    limited = LimitedSink(sink, clock=iter(number / 1000 for number in range(3000)).__next__)
    for number in range(3000):
        limited(logging.INFO, "stdout", str(number))
    reports = [text for _, _, text in sink.lines if text.endswith("dropped")]
    assert len(reports) == 3
    assert len(sink.lines) - len(reports) == pytest.approx(4 * LINES_PER_SECOND, abs=2)


def test_a_long_line_is_cut_and_an_undecodable_one_replaced() -> None:
    sink = Sink()
    limited = LimitedSink(sink, clock=lambda: 1.0)
    limited(logging.INFO, "stdout", "x" * 10_000)
    limited(logging.INFO, "stdout", "file\udcff")
    assert len(sink.lines[0][2]) < 5_000 and sink.lines[0][2].endswith("…")
    assert sink.lines[1][2] == "file?"


def test_a_tee_writes_everything_and_forwards_complete_lines() -> None:
    stream, sink = io.StringIO(), Sink()
    tee = LineTee(stream, logging.INFO, "stdout", sink)
    assert tee.write("one\ntw") == 6
    tee.writelines(["o\n", "\n", "  3%\r 99%\r100%\n", "rest"])
    assert stream.getvalue() == "one\ntwo\n\n  3%\r 99%\r100%\nrest"
    assert [text for _, _, text in sink.lines] == ["one", "two", "100%"]
    assert not tee.isatty(), "all else is the stream's own"


def test_threads_do_not_mix_their_half_lines() -> None:
    sink = Sink()
    tee = LineTee(io.StringIO(), logging.INFO, "stdout", sink)
    tee.write("mi")
    thread = threading.Thread(target=lambda: tee.write("theirs\n"))
    thread.start()
    thread.join()
    tee.write("ne\n")
    assert [text for _, _, text in sink.lines] == ["theirs", "mine"]


def test_a_progress_bar_that_never_ends_its_line_does_not_pile_up() -> None:
    sink = Sink()
    tee = LineTee(io.StringIO(), logging.WARNING, "stderr", sink)
    for number in range(1000):
        tee.write(f"\r{number} done" + "." * 100)
    tee.write("\n")
    ((_, _, text),) = sink.lines
    assert text.startswith("999 done")
