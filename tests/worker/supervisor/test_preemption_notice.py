"""Preemption notices from a file, and from servers that answer as the metadata services of clouds do."""

from __future__ import annotations

import http.server
import json
import logging
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from enqueuer_worker.supervisor import preemption_notice
from enqueuer_worker.supervisor.preemption_notice import NoticeWatch, _Url
from tests.support.waiting import wait_until

LOGGER = logging.getLogger("enqueuer.worker.test")
TOKEN_SECONDS = "X-aws-ec2-metadata-token-ttl-seconds"


class Metadata(http.server.ThreadingHTTPServer):
    """A metadata service: its answers by path, and the headers that a request must have for them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.answers: dict[str, str] = {}
        self.required: dict[str, str] = {}
        self.token = ""
        self.asked: list[str] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Request(http.server.BaseHTTPRequestHandler):
    server: Metadata

    def do_GET(self) -> None:
        service = self.server
        service.asked.append(self.path)
        if any(self.headers.get(name) != value for name, value in service.required.items()):
            self.answer(403, "a header is missing")
        elif service.token and self.headers.get("X-aws-ec2-metadata-token") != service.token:
            self.answer(401, "")
        elif self.path in service.answers:
            self.answer(200, service.answers[self.path])
        else:
            self.answer(404, "not found")

    def do_PUT(self) -> None:
        assert self.path == "/latest/api/token" and int(self.headers[TOKEN_SECONDS]) <= 21_600
        self.answer(200, self.server.token)

    def answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Metadata]:
    with Metadata() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_aws_has_no_such_page_until_the_notice_is_there(service: Metadata) -> None:
    path = "/latest/meta-data/spot/instance-action"
    url = _Url(service.url(path))
    assert url.read() == ""
    service.answers[path] = '{"action": "terminate", "time": "2026-11-27T12:00:00Z"}'
    assert "terminate" in url.read()


def test_aws_may_ask_for_a_sessions_token_and_again_when_it_has_expired(service: Metadata) -> None:
    path = "/latest/meta-data/spot/instance-action"
    url = _Url(service.url(path))
    for token in ("first", "second"):
        service.token = token
        assert url.read() == ""
    service.answers[path] = '{"action": "stop"}'
    assert "stop" in url.read()


@pytest.mark.parametrize(
    ("path", "before", "notice"),
    [
        ("/computeMetadata/v1/instance/preempted", "FALSE\n", "TRUE\n"),
        ("/computeMetadata/v1/instance/maintenance-event", "NONE", "TERMINATE_ON_HOST_MAINTENANCE"),
    ],
)
def test_google_cloud_answers_false_or_none_until_the_notice(
    service: Metadata, path: str, before: str, notice: str
) -> None:
    service.required = {"Metadata-Flavor": "Google"}
    url = _Url(service.url(path))
    service.answers[path] = before
    assert url.read() == ""
    service.answers[path] = notice
    assert notice.strip() in url.read()


def test_azure_lists_events_of_which_only_an_end_of_this_machine_is_a_notice(service: Metadata) -> None:
    path = "/metadata/scheduledevents?api-version=2020-07-01"
    service.required = {"Metadata": "true"}
    service.answers["/metadata/instance/compute/name?api-version=2021-02-01&format=text"] = "workers_2"
    url = _Url(service.url(path))

    def events(*listed: tuple[str, str]) -> str:
        return json.dumps({"Events": [{"EventType": kind, "Resources": [name]} for kind, name in listed]})

    for no_notice in (events(), events(("Freeze", "workers_2")), events(("Preempt", "workers_7"))):
        service.answers[path] = no_notice
        assert url.read() == "", no_notice
    service.answers[path] = events(("Freeze", "workers_2"), ("Preempt", "workers_2"))
    assert url.read().endswith("lists an event Preempt for workers_2")


def test_a_proxy_is_not_asked(service: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    service.answers["/there"] = "yes"
    assert "'yes'" in _Url(service.url("/there")).read()


def test_a_server_that_cannot_be_read_is_told_once_and_read_when_it_can_be(
    service: Metadata, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(preemption_notice._Url, "interval", 0.01)
    service.required = {"never": "sent"}
    watch = NoticeWatch(service.url("/preempted"), LOGGER)
    try:
        wait_until(lambda: len(service.asked) > 3, what="some requests")
        assert watch.result is None
        service.answers["/preempted"] = "TRUE"
        service.required = {}
        assert select.select([watch], [], [], 60)[0] == [watch]
        assert watch.result is not None and watch.result.endswith("/preempted answers 'TRUE'")
    finally:
        watch.close()
    (record,) = caplog.records
    assert "no preemption notice can be read from http://127.0.0.1:" in record.getMessage()
    assert "403" in record.getMessage()


def test_a_file_is_a_notice_as_soon_as_it_is_there_and_a_closed_watch_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preemption_notice._File, "interval", 0.01)
    file = tmp_path / "notice"
    watches = [NoticeWatch(str(file), LOGGER) for _ in range(2)]
    watches[1].close()
    assert watches[0].result is None
    file.touch()
    assert select.select([watches[0]], [], [], 60)[0] == [watches[0]]
    assert watches[0].result == f"{file} is there"
    watches[0].close()
    wait_until(lambda: not any(thread.name == "enqueuer-notice" for thread in threading.enumerate()))
    assert watches[1].result in ("", watches[0].result)
