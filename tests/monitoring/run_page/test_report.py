"""``report=``: what the file has after a session, and what keeps it from being written."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer import ConfigurationError, SequenceEnqueuer, SequenceError
from enqueuer.monitoring.run_page import report as report_module
from tests.support.sequences import Bare
from tests.support.waiting import wait_until

HOSTILE = "<script>document.title='taken over'</script>"


class Faulty:
    """Raises a text that looks like markup, for one index."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> np.ndarray:
        if index == 3:
            raise ValueError(HOSTILE)
        return np.full(4, index)


def record_in(path: Path) -> dict[str, Any]:
    page = path.read_text("utf-8")
    [text] = re.findall(r'<script type="application/json" id="record">(.*?)</script>', page, re.DOTALL)
    record = json.loads(text)
    assert isinstance(record, dict)
    return record


def test_a_report_tells_the_whole_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "run.html"
    with SequenceEnqueuer(Faulty(), True, report=path, retries=1, on_error="skip") as enqueuer:
        enqueuer.start(workers=2)
        enqueuer.wait_for_workers(2, timeout=60.0)
        assert len(list(enqueuer.epoch())) == 7
        [victim, _] = enqueuer.stats().workers
        os.kill(victim.pid, signal.SIGKILL)
        wait_until(lambda: enqueuer.stats().lost_workers_count, what="the loss of a worker")
        assert len(list(enqueuer.epoch())) == 7
        assert not path.exists(), "only at the end"
    record = record_in(path)
    run = record["run"]
    assert (record["state"], record["reason"]) == ("report", "")
    assert run["now"]["batches_total"] == 16 and run["now"]["skipped_count"] == 2
    texts = [text for _, text in run["faults"]]
    assert [text for text in texts if f"raised ValueError: {HOSTILE}" in text]
    assert [text for text in texts if "killed by SIGKILL" in text]
    assert HOSTILE not in path.read_text(), "no text is markup"
    assert "died" in [event[1] for event in run["events"]]
    assert [epoch["last"] for epoch in run["epochs"]][-1] == 1
    assert sum(epoch["batches"] for epoch in run["epochs"]) <= 16
    # The one that was killed may have lived between two looks.
    assert run["workers"] and {row[0] for row in run["workers"]} <= {"local-0", "local-1"}
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"


def test_the_error_that_ends_a_run_is_in_its_report_and_a_later_run_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.write_text("an older file")
    with SequenceEnqueuer(Faulty(), report=str(path)) as enqueuer:
        enqueuer.start(workers=1)
        with pytest.raises(ValueError, match="script"):
            list(enqueuer.epoch())
        reason = record_in(path)["reason"]
        assert reason.startswith(f"ValueError: {HOSTILE}") and "sequence[3]" in reason
        enqueuer.start(workers=1)
        next(enqueuer.get())
        enqueuer.stop()
        assert record_in(path)["reason"] == ""


def test_a_path_that_cannot_be_written_is_an_error_of_start_and_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path, reason in (
        (tmp_path / "nowhere" / "run.html", "No such file or directory"),
        (tmp_path / "file" / "run.html", "Not a directory"),
        (tmp_path / "directory", "it is a directory"),
        (tmp_path / "pipe", "it is there and no regular file"),
        (tmp_path / "link", "it is there and no regular file"),
    ):
        enqueuer = SequenceEnqueuer(Bare(length=6), report=path)
        with pytest.raises(OSError, match=f"report='{re.escape(str(path))}' cannot be written: {reason}") as raised:
            enqueuer.start(workers=1)
        assert raised.value.errno
        assert not enqueuer.is_running()
    assert (tmp_path / "pipe").is_fifo()


def test_a_disk_that_fails_at_the_end_is_told_and_stop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.html"
    enqueuer = SequenceEnqueuer(Bare(length=6), report=path)
    enqueuer.start(workers=1)
    next(enqueuer.get())

    def full(record: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_module, "build_page", full)
    enqueuer.stop()
    assert f"the report {path} cannot be written: No space left on device" in caplog.messages
    assert list(tmp_path.iterdir()) == []


def test_a_relative_path_is_that_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with SequenceEnqueuer(Bare(length=6), report="run.html") as enqueuer:
        enqueuer.start(workers=1)
        monkeypatch.chdir(tmp_path / "elsewhere")
        next(enqueuer.get())
    assert (tmp_path / "run.html").exists()


@pytest.mark.parametrize("value", ["", 7, True, ["run.html"]])
def test_what_is_no_path_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="report must be the path of a file to write, or None"):
        SequenceEnqueuer(Bare(length=6), report=value)


def test_without_workers_a_report_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with SequenceEnqueuer(Bare(length=6), report=tmp_path / "run.html") as enqueuer:
        enqueuer.start(workers=0)
        next(enqueuer.get())
    assert "report has no effect with workers=0 and without bind" in caplog.messages
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_a_line_with_its_batch_and_then_the_traceback_once() -> None:
    error = OSError("truncated file")
    error.__cause__ = SequenceError("sequence[7] raised OSError", remote_traceback="Traceback:\n\n  line 1\nOSError")
    head, traceback = report_module.describe_failure(error).split("\n\n", 1)
    assert head == "OSError: truncated file (sequence[7] raised OSError)"
    assert traceback == "Traceback:\n\n  line 1\nOSError"
    error.__cause__ = SequenceError("sequence[7] raised OSError")
    assert report_module.describe_failure(error) == head


def test_an_error_without_a_text_has_a_line_in_the_report() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert report_module.describe_failure(Unprintable()) == "Unprintable: (its __str__ raised RuntimeError)"
