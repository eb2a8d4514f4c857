"""Records and warnings of workers reach this process's handlers, whatever is in them."""

from __future__ import annotations

import json
import logging
import warnings
from typing import Any

import pytest

from enqueuer.runtime.worker_logs import WorkerLogs, describe_logging


def record_of(level: int, text: str) -> dict[str, Any]:
    record = {"name": "reading", "levelno": level, "levelname": logging.getLevelName(level), "msg": text, "args": None}
    return {"record": record}


def send(logs: WorkerLogs, line: dict[str, Any]) -> None:
    logs.sending.send(json.dumps(line).encode())


def test_a_record_goes_to_the_handlers_of_its_logger(caplog: pytest.LogCaptureFixture) -> None:
    logs = WorkerLogs()
    with caplog.at_level(logging.INFO, "reading"):
        send(
            logs, {"record": {"name": "reading", "levelno": 20, "levelname": "INFO", "msg": "100 % read", "args": None}}
        )
        send(logs, {"record": {"name": "reading", "levelno": 10, "levelname": "DEBUG", "msg": "too low", "args": None}})
        logs.read()
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("reading", "100 % read")]
    logs.close()


def test_what_is_left_at_the_end_is_still_handled(caplog: pytest.LogCaptureFixture) -> None:
    logs = WorkerLogs()
    send(logs, record_of(logging.WARNING, "last"))
    logs.close()
    assert [record.getMessage() for record in caplog.records] == ["last"]
    logs.read()


def test_a_level_that_only_this_process_has_a_name_for_has_that_name(caplog: pytest.LogCaptureFixture) -> None:
    logs, sent = WorkerLogs(), record_of(26, "noticed")
    assert sent["record"]["levelname"] == "Level 26"
    logging.addLevelName(26, "NOTICE")
    with caplog.at_level(logging.INFO, "reading"):
        send(logs, sent)
        logs.read()
    assert [record.levelname for record in caplog.records] == ["NOTICE"]
    logs.close()


def test_a_warning_of_several_workers_is_shown_once() -> None:
    logs = WorkerLogs()
    warning = {"kind": ["builtins", "RuntimeWarning"], "text": "dull", "filename": "/data/reading.py", "lineno": 7}
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        for _ in range(3):
            send(logs, {"warning": warning})
        send(logs, {"warning": {**warning, "kind": ["not", "imported"], "lineno": 8}})
        logs.read()
    assert [(one.category, str(one.message), one.filename, one.lineno) for one in shown] == [
        (RuntimeWarning, "dull", "/data/reading.py", 7),
        (UserWarning, "dull", "/data/reading.py", 8),
    ]
    logs.close()


def test_a_warning_that_this_process_would_raise_is_shown_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    logs, shown = WorkerLogs(), []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: shown.append(message))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        send(logs, {"warning": {"kind": ["a", "b"], "text": "late", "filename": "reading.py", "lineno": 7}})
        logs.read()
    assert shown == ["late"]
    logs.close()


def test_levels_handlers_and_filters_are_described(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(7, "reading.here"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "dull.*", RuntimeWarning, r"reading\.", 3)
        described = json.loads(describe_logging())
    assert described["levels"]["reading.here"] == 7
    assert "root" in described["handled"]
    assert described["filters"][0] == ["ignore", "dull.*", "builtins", "RuntimeWarning", r"reading\.", 3]
