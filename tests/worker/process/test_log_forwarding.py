"""Lines of user code on their way to the trainer."""

from __future__ import annotations

import io
import logging
import threading

from enqueuer_worker.process.log_forwarding import LINES_PER_SECOND, LineTee, RateLimit

Line = tuple[int, str, str]


class Sink:
    def __init__(self) -> None:
        self.lines: list[Line] = []

    def __call__(self, level: int, logger: str, text: str) -> None:
        self.lines.append((level, logger, text))


def test_a_flood_is_cut_and_counted() -> None:
    sink, now = Sink(), [10.0]
    limited = RateLimit(sink, clock=lambda: now[0])
    for number in range(LINES_PER_SECOND + 5):
        limited(logging.INFO, "stdout", str(number))
    assert len(sink.lines) == LINES_PER_SECOND
    now[0] = 11.0
    limited(logging.INFO, "stdout", "later")
    assert sink.lines[-2:] == [
        (logging.WARNING, "enqueuer.worker", "5 lines dropped"),
        (logging.INFO, "stdout", "later"),
    ]


def test_a_long_or_undecodable_line_is_made_fit_to_travel() -> None:
    sink = Sink()
    limited = RateLimit(sink, clock=lambda: 1.0)
    limited(logging.INFO, "stdout", "x" * 10_000)
    limited(logging.INFO, "stdout", "file\udcff")
    assert len(sink.lines[0][2]) < 5_000 and sink.lines[0][2].endswith("…")
    assert sink.lines[1][2] == "file?"


def test_everything_is_passed_on_and_complete_lines_are_forwarded() -> None:
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
