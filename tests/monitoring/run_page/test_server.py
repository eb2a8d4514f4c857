"""The server of the page, and its server-sent events, against a real trainer."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from enqueuer import SequenceEnqueuer
from enqueuer.monitoring.run_page import broadcast as broadcast_module
from enqueuer.monitoring.run_page.broadcast import Broadcast
from enqueuer.monitoring.run_page.server import DashboardServer
from enqueuer.observer import NoTrainerError, Observer, local_observers
from enqueuer.top.feed import Feed
from tests.support.observed import own_directory
from tests.support.recorded import recorded_pages
from tests.support.sequences import Bare
from tests.support.waiting import wait_until

TIMEOUT = 60.0


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_directory(monkeypatch) as path:
        yield path


@pytest.fixture
def broadcast() -> Iterator[Broadcast]:
    made = Broadcast()
    yield made
    made.close()


@pytest.fixture
def server(broadcast: Broadcast) -> Iterator[DashboardServer]:
    made = DashboardServer(broadcast, 0)
    made.start()
    yield made
    broadcast.close()
    made.close()


class Events:
    """The events that one page gets."""

    def __init__(self, server: DashboardServer) -> None:
        self.connection = connect(server)
        self.connection.request("GET", "/events")
        self.response = self.connection.getresponse()
        assert self.response.status == 200 and self.response.getheader("Content-Type") == "text/event-stream"

    def next(self) -> tuple[str, Any]:
        """The next event: its kind and its data."""
        kind = ""
        while True:
            line = self.response.readline().decode().rstrip("\n")
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                return kind, json.loads(line.removeprefix("data: "))

    def until(self, wanted: str) -> Any:
        """The data of the next event of this kind."""
        while True:
            kind, data = self.next()
            if kind == wanted:
                return data

    def close(self) -> None:
        self.response.close()
        self.connection.close()


def connect(server: DashboardServer) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", int(server.url.split(":")[2].strip("/")), timeout=TIMEOUT)


def fetch(server: DashboardServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    with closing(connect(server)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()


def test_the_page_comes_with_headers_that_keep_others_out(server: DashboardServer) -> None:
    status, headers, body = fetch(server, "/")
    assert status == 200 and body.startswith("<!doctype html>") and "uPlot" in body
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
    assert not [name for name in headers if name.lower().startswith("access-control")]
    assert fetch(server, "/elsewhere")[0] == 404 and fetch(server, "/events/")[0] == 404
    assert fetch(server, "/", "POST")[0] == 501


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "127.0.0.1:x", "", "["])
@pytest.mark.parametrize("path", ["/", "/events"])
def test_a_name_that_another_site_has_given_this_machine_is_refused(
    server: DashboardServer, host: str, path: str
) -> None:
    status, _, body = fetch(server, path, Host=host)
    assert status == 403 and "uPlot" not in body


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:9465", "[::1]:80"])
def test_the_names_of_this_machine_are_taken_also_with_a_tunnels_port(server: DashboardServer, host: str) -> None:
    assert fetch(server, "/", Host=host)[0] == 200


def test_a_port_that_is_taken_is_an_error_that_says_so(server: DashboardServer, broadcast: Broadcast) -> None:
    port = int(server.url.split(":")[2].strip("/"))
    with pytest.raises(OSError, match=f"127.0.0.1:{port}: the port is taken"):
        DashboardServer(broadcast, port)


def test_a_page_follows_a_trainer_that_starts_ends_and_starts_again(
    server: DashboardServer, broadcast: Broadcast
) -> None:
    def find() -> Observer:
        found = local_observers(timeout=TIMEOUT)
        if not found:
            raise NoTrainerError("no trainer runs here")
        return found[0]

    feed = Feed(find, broadcast.take, broadcast.note_silence)
    feed.start()
    try:
        with closing(Events(server)) as events, SequenceEnqueuer(Bare(length=6)) as enqueuer:
            message = events.until("run")
            assert message["state"] == "waiting" and message["run"] is None
            for slots in (1, 2):
                enqueuer.start(workers=slots)
                batches = enqueuer.get()
                next(batches)
                message = events.until("run")
                while message["run"] is None or message["run"]["now"]["slots_count"] != slots:
                    message = events.until("run")
                assert message["state"] == "live"
                assert [event[1] for event in message["run"]["events"]][:1] == ["joined"]
                next(batches)
                change = events.until("change")
                while change["now"]["batches_total"] < 2:
                    change = events.until("change")
                # A page that comes later begins with all that there was.
                with closing(Events(server)) as late:
                    run = late.until("run")["run"]
                    assert run["now"]["slots_count"] == slots and len(run["history"][0]) >= 1
                enqueuer.stop()
                state = events.until("state")
                assert state["state"] == "lost" and state["reason"]
    finally:
        feed.stop()
        feed.join()


def test_a_page_that_reads_too_slowly_gets_the_whole_record_again(broadcast: Broadcast) -> None:
    pages = recorded_pages()
    messages = broadcast.messages()
    assert next(messages).startswith(b"event: run")
    for page in pages[:3]:
        broadcast.take(page)
    assert next(messages).count(b"event: ") == 3
    for page in pages[3:]:
        broadcast.take(page)
    late = next(messages)
    assert late.count(b"event: ") == 1 and late.startswith(b"event: run")
    whole = json.loads(late.partition(b"data: ")[2])
    assert whole["run"]["now"]["batches_total"] == pages[-1].batches_total


def test_a_quiet_page_gets_a_comment_and_ends_with_the_broadcast(
    broadcast: Broadcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast_module, "_QUIET_SECONDS", 0.01)
    messages = broadcast.messages()
    next(messages)
    assert next(messages) == b":\n\n"
    broadcast.close()
    assert list(messages) == []


def test_a_trainer_that_is_back_is_an_event_and_the_reason_is_told_once(broadcast: Broadcast) -> None:
    pages = recorded_pages()
    broadcast.note_silence("nothing answers")
    broadcast.take(pages[0])
    broadcast.take(pages[1])
    for _ in range(3):
        broadcast.note_silence("it hangs")
    messages = broadcast.messages()
    first = json.loads(next(messages).partition(b"data: ")[2])
    assert (first["state"], first["reason"]) == ("lost", "it hangs")
    broadcast.take(pages[2])
    back = json.loads(next(messages).partition(b"data: ")[2])
    assert back["state"] == "live"
    told = [event[1] for event in back["run"]["events"]]
    assert told[-1] == "seen again" and told.count("not seen") == 1


def test_more_pages_than_there_is_room_for_are_refused_and_room_comes_back(
    server: DashboardServer, broadcast: Broadcast
) -> None:
    opened = [Events(server) for _ in range(16)]
    status, _, _ = fetch(server, "/events")
    assert status == 503
    for events in opened:
        events.close()

    def has_room() -> bool:
        broadcast.note_silence(str(threading.get_ident()) + str(len(opened)))
        opened.append(opened[0])  # another reason each time, so that each page is written to
        with closing(connect(server)) as connection:
            connection.request("GET", "/events")
            return connection.getresponse().status == 200

    wait_until(has_room, TIMEOUT, "room for a page")
