"""Broadcasts the record of a running trainer to all open pages, as server-sent events.

    pages of snapshots ──► Recorder ──► messages, numbered ──► a generator for each open page

A page gets the whole record first, and then the changes. A slow reader misses changes, and gets the whole record again.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from enqueuer.monitoring.run_page.recorder import Recorder
from enqueuer.protocol.observation import Snapshot

_MOST_BEHIND = 8
# A message at least this often proves the server to the page, and the page to the server.
_QUIET_SECONDS = 5.0


class Broadcast:
    """Numbered messages about one trainer, for any number of open pages.

    One thread calls `take` and `note_silence`; each open page's thread reads its own `messages`.
    """

    def __init__(self) -> None:
        # Guards the attributes below; each message, and the end, notifies it.
        self._news = threading.Condition()
        self._recorder = Recorder()
        self._state: dict[str, Any] = {"state": "waiting", "reason": ""}
        self._messages: deque[bytes] = deque(maxlen=_MOST_BEHIND)
        self._messages_count = 0
        self._is_closed = False

    def close(self) -> None:
        """End all generators."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()

    def take(self, page: Snapshot) -> None:
        """Record a page of a snapshot, and send the changes."""
        with self._news:
            is_same = self._recorder.is_of(page)
            if not is_same:
                self._recorder = Recorder()
            self._recorder.add(page)
            was_lost = self._state["state"] == "lost"
            if was_lost and is_same:
                self._recorder.note("seen again", "the trainer answers again")
            changes = self._recorder.take_changes()
            if self._state["state"] != "live" or changes is None:
                self._state = {"state": "live", "reason": ""}
                self._tell("run", self._whole())
            else:
                self._tell("change", changes)

    def note_silence(self, reason: str) -> None:
        """Send the reason for a trainer's silence, once for each reason."""
        with self._news:
            was = self._state["state"]
            state = {"state": "waiting" if was == "waiting" else "lost", "reason": reason}
            if was == "live":
                self._recorder.note("ended" if "has ended" in reason else "not seen", reason)
            if state != self._state:
                self._state = state
                self._tell("state", state)

    def _tell(self, kind: str, value: Any) -> None:
        self._messages.append(_event(kind, value))
        self._messages_count += 1
        self._news.notify_all()

    def _whole(self) -> dict[str, Any]:
        return {**self._state, "run": self._recorder.to_json() if self._recorder.latest is not None else None}

    def messages(self) -> Iterator[bytes]:
        """Server-sent events for one page, until `close`; an empty comment from time to time."""
        with self._news:
            told = self._messages_count
            message = _event("run", self._whole())
        while True:
            yield message
            with self._news:
                if told == self._messages_count and not self._is_closed:
                    self._news.wait(_QUIET_SECONDS)
                if self._is_closed:
                    return
                behind = self._messages_count - told
                if behind == 0:
                    message = b":\n\n"
                elif behind <= len(self._messages):
                    message = b"".join(list(self._messages)[-behind:])
                else:
                    message = _event("run", self._whole())
                told = self._messages_count


def _event(kind: str, value: Any) -> bytes:
    data = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()
