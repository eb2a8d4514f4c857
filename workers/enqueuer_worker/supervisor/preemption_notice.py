"""A preemption notice: a file that appears, or a URL that begins to answer, before a machine is taken away.

Answers of the metadata services of clouds to a preemptible machine:

    cloud         before the notice             the notice
    AWS           404                           200, {"action": "terminate", …}; may want a session's token (IMDSv2)
    Google Cloud  200, FALSE or NONE            200, TRUE
    Azure         200, {"Events": []}           200, an event Preempt that lists this machine among its resources

Any other server is understood like AWS: 200 with a body is a notice. The three clouds' headers are sent to all, as each
of them ignores those of the others.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urljoin

from enqueuer_worker.background import BackgroundCall

# AWS advises 5 s; Google Cloud and Azure take the machine 30 s after the notice, and a drain may need those.
_URL_SECONDS = 2.0
_FILE_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
_MOST_BYTES = 64 * 1024
_SHOWN_CHARACTERS = 80
_HEADERS = {"Metadata-Flavor": "Google", "Metadata": "true"}
_NO_NOTICE = frozenset({"", "FALSE", "NONE"})
_AZURE_EVENTS = frozenset({"Preempt", "Terminate"})
_AZURE_NAME = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
_AWS_TOKEN = "/latest/api/token"  # noqa: S105 - a path
_AWS_TOKEN_SECONDS = "21600"  # noqa: S105


class NoticeWatch(BackgroundCall[str]):
    """Looks for the notice in a thread of its own, as a network or a shared directory may block.

    ``fileno()`` becomes readable when ``result``, the notice in words, is there.
    """

    def __init__(self, target: str, logger: logging.Logger) -> None:
        self._source = _Url(target) if is_url(target) else _File(target)
        self._target = target
        self._logger = logger
        self._ended = threading.Event()
        super().__init__(self._wait_for_notice, "enqueuer-notice")

    def close(self) -> None:
        self._ended.set()
        super().close()

    def _wait_for_notice(self) -> str:
        fails = False
        while not self._ended.is_set():
            try:
                if notice := self._source.read():
                    return notice
                fails = False
            except (OSError, ValueError, http.client.HTTPException) as error:
                if not fails:
                    self._logger.warning(
                        "no preemption notice can be read from %s: %s; going on without it, and trying again",
                        self._target,
                        error,
                    )
                fails = True
            self._ended.wait(self._source.interval)
        return ""


def is_url(target: str) -> bool:
    """Whether this is a URL, and no path."""
    return target.startswith(("http://", "https://"))


class _File:
    interval = _FILE_SECONDS

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def read(self) -> str:
        return f"{self._path} is there" if self._path.exists() else ""


class _Url:
    interval = _URL_SECONDS

    def __init__(self, url: str) -> None:
        self._url = url
        self._headers = dict(_HEADERS)
        # No proxy can ask this machine's metadata service.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def read(self) -> str:
        """Return the notice, '' if there is none. Raises OSError, ValueError or HTTPException without an answer."""
        try:
            answer = self._ask(self._url)
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.UNAUTHORIZED:
                raise
            token = self._ask(_AWS_TOKEN, "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": _AWS_TOKEN_SECONDS})
            self._headers["X-aws-ec2-metadata-token"] = token
            answer = self._ask(self._url)
        with contextlib.suppress(ValueError):
            listed = json.loads(answer)
            if isinstance(listed, dict) and isinstance(listed.get("Events"), list):
                return self._read_azure(listed["Events"])
        return "" if answer.upper() in _NO_NOTICE else f"{self._url} answers {answer[:_SHOWN_CHARACTERS]!r}"

    def _read_azure(self, events: list[object]) -> str:
        """Azure tells all machines of a scale set of one another's events."""
        ends = [event for event in events if isinstance(event, dict) and event.get("EventType") in _AZURE_EVENTS]
        if not ends:
            return ""
        name = self._ask(_AZURE_NAME)
        mine = [event["EventType"] for event in ends if name in event.get("Resources", ())]
        return f"{self._url} lists an event {mine[0]} for {name}" if mine else ""

    def _ask(self, where: str, method: str = "GET", headers: dict[str, str] | None = None) -> str:
        """Return the body of an answer; '' if there is nothing at this URL (404)."""
        request = urllib.request.Request(  # noqa: S310 - only http and https come here
            urljoin(self._url, where), method=method, headers={**self._headers, **(headers or {})}
        )
        try:
            with self._opener.open(request, timeout=_ANSWER_SECONDS) as answer:
                return str(answer.read(_MOST_BYTES).decode(errors="replace")).strip()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.HTTPStatus.NOT_FOUND:
                return ""
            raise
