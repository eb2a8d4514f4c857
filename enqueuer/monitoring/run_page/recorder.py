"""Records a run from snapshots, a second apart, in bounded memory. The page shows the record, live or as a report.

    Snapshot ──► LongHistory   rates, waits, queue and more over time
             ──► Workers       the latest row of each, and the strip of item times
             ──► WaitCauses    the verdict by epoch, and the causes of the trainer's waits
             ──► events        arrivals and departures of workers, and growth in counters of faults

`to_json` is the whole record; `take_changes` has the changes by the latest snapshots. One thread at a time uses it.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from enqueuer.monitoring.history import is_another_session
from enqueuer.monitoring.run_page.long_history import LongHistory
from enqueuer.monitoring.run_page.wait_causes import CauseTime, WaitCauses
from enqueuer.monitoring.run_page.workers import Workers
from enqueuer.protocol.observation import Snapshot

_MOST_EVENTS = 400
_MOST_FAULTS = 400
_LONGEST_FAULT = 2_000
# Closer snapshots give no rate: a large fleet takes several pages at once.
_LEAST_SECONDS = 0.4
# Rates are taken over this many seconds: in many trainings a batch takes longer than the time between two snapshots.
_RATE_SECONDS = 5.0

# Each counter, the name of its growth as an event, and the counted thing in singular and plural.
_COUNTED = (
    ("hedges_count", "hedged", "batch", "batches"),
    ("retries_count", "retried", "batch", "batches"),
    ("skipped_count", "skipped", "batch", "batches"),
    ("timeouts_count", "timed out", "batch", "batches"),
    ("malformed_count", "malformed", "message", "messages"),
    ("offences_count", "offence", "act that no honest peer does", "acts that no honest peer does"),
)
_COLUMNS = (
    *("rate", "wait", "ready", "ahead", "leased", "limit", "slots", "desired", "busy"),
    *("shared_bytes", "socket_bytes", "io_thread", "memory", "workers_memory"),
)
_NOW = (
    *("library_version", "host", "pid", "elapsed_seconds", "startup_seconds", "epoch", "taken_count", "length"),
    *("ready_count", "received_count", "leased_count", "queue_limit", "workers_count", "slots_count"),
    *("joining_count", "draining_count", "batches_total", "bytes_total", "shared_bytes_total", "compression_ratio"),
    *("wait_seconds", "startup_wait_seconds", "io_thread_seconds", "skipped_count", "retries_count"),
    *("hedges_count", "timeouts_count", "stale_count", "malformed_count", "offences_count", "lost_workers_count"),
    *("cause", "recent_wait_share", "desired_slots", "sentence", "cure", "window_seconds", "window_batches"),
    *("item_counts", "rows_total", "memory_bytes", "workers_memory_bytes", "network_bytes_total"),
    *("busy_share", "computing_share", "work_seconds"),
)


class Recorder:
    """The record of one run. Snapshots come from one session, in the order of their times."""

    def __init__(self) -> None:
        self.latest: Snapshot | None = None
        self.workers = Workers()
        self._history = LongHistory(_COLUMNS)
        # The snapshots behind the rates.
        self._recent: deque[Snapshot] = deque()
        self._causes = WaitCauses()
        self._events: deque[list[Any]] = deque(maxlen=_MOST_EVENTS)
        self._faults: deque[list[Any]] = deque(maxlen=_MOST_FAULTS)
        self._faults_count = 0
        # The slots' time since the first snapshot, and the part of it in which they computed.
        self._slot_seconds = self._computed_seconds = 0.0
        self._last_event = 0
        self._new_events: list[list[Any]] = []
        # The versions of the parts at the last `take_changes`; None before the first one.
        self._told: tuple[int, int, int] | None = None
        self._told_epochs = 0
        self._merges_count = 0

    @property
    def last_event(self) -> int:
        """The number of the latest known event of the fleet. The next request asks for later ones."""
        return self._last_event

    def is_of(self, seen: Snapshot) -> bool:
        """Whether a snapshot is of the recorded session."""
        return self.latest is None or not is_another_session(self.latest, seen)

    def add(self, seen: Snapshot, *, is_last: bool = False) -> None:
        """Record a snapshot, or another page of its workers; `is_of` is true for it."""
        before = self.latest
        self._add_fleet_events(seen)
        seconds = math.inf if before is None else seen.elapsed_seconds - before.elapsed_seconds
        if seconds >= _LEAST_SECONDS or (is_last and seconds > 0):
            self.latest = seen
            if before is not None:
                self._add_growth(before, seen)
                self._add_rates(seen)
            self._recent.append(seen)
        self.workers.add(seen)

    def add_faults(self, faults: Iterable[tuple[float, str]], count: int) -> None:
        """Record the texts of faults, with the seconds since the run's start; ``count`` is their number by now."""
        self._faults_count = count
        self._faults.extend([round(at, 2), text[:_LONGEST_FAULT]] for at, text in faults)

    def note(self, what: str, text: str) -> None:
        """Add an event of the observation itself, at the latest time."""
        self._add_event(self.latest.elapsed_seconds if self.latest is not None else 0.0, what, text)

    def _add_fleet_events(self, seen: Snapshot) -> None:
        for number, at, what, worker in seen.events:
            if number <= self._last_event:
                continue
            if number > self._last_event + 1:
                missed = number - self._last_event - 1
                self._add_event(at, "more", f"{missed} earlier changes of the fleet, which are not listed")
            self._add_event(at, what, worker)
            self._last_event = number

    def _add_growth(self, before: Snapshot, seen: Snapshot) -> None:
        seconds = seen.elapsed_seconds - before.elapsed_seconds
        self._slot_seconds += seconds * before.slots_count
        self._computed_seconds += seen.busy_seconds - before.busy_seconds
        waited = min(seconds, max(0.0, _waited(seen) - _waited(before)))
        for epoch, batches, share in _by_epoch(before, seen):
            part = CauseTime(seen.cause, share * seconds, share * waited, seen.sentence, seen.cure, seen.desired_slots)
            self._causes.add(epoch, batches, part)
        for name, what, one, several in _COUNTED:
            if (count := getattr(seen, name) - getattr(before, name)) > 0:
                self._add_event(seen.elapsed_seconds, what, f"{count} {one if count == 1 else several}")

    def _add_rates(self, seen: Snapshot) -> None:
        recent = self._recent
        while len(recent) > 1 and seen.elapsed_seconds - recent[1].elapsed_seconds >= _RATE_SECONDS:
            recent.popleft()
        before = recent[0]
        seconds = seen.elapsed_seconds - before.elapsed_seconds
        available = seconds * min(before.slots_count, seen.slots_count)
        shared = seen.shared_bytes_total - before.shared_bytes_total
        is_merged = self._history.add(
            seen.elapsed_seconds,
            (
                (seen.batches_total - before.batches_total) / seconds,
                min(1.0, max(0.0, _waited(seen) - _waited(before)) / seconds) if seen.batches_total else math.nan,
                seen.ready_count,
                seen.received_count,
                seen.leased_count,
                seen.queue_limit or math.nan,
                seen.slots_count,
                math.nan if seen.desired_slots is None else seen.desired_slots,
                min(1.0, (seen.busy_seconds - before.busy_seconds) / available) if available > 0 else math.nan,
                shared / seconds,
                max(0, seen.bytes_total - before.bytes_total - shared) / seconds,
                (seen.io_thread_seconds - before.io_thread_seconds) / seconds,
                seen.memory_bytes or math.nan,
                seen.workers_memory_bytes,
            ),
        )
        self._merges_count += is_merged

    def _add_event(self, at: float, what: str, text: str) -> None:
        event = [round(at, 2), what, text]
        self._events.append(event)
        self._new_events.append(event)

    # ------------------------------------------------------------ for the page

    def to_json(self) -> dict[str, Any]:
        """The whole record, as JSON values."""
        strip = self.workers.strip
        return {
            "now": self._now(),
            "columns": list(_COLUMNS),
            "history": self._history.columns(),
            "events": list(self._events),
            "faults": list(self._faults),
            "faults_count": self._faults_count,
            "workers": self.workers.to_json(),
            "heat": {
                "span": strip.span,
                "numbers": strip.numbers,
                "columns": [b64encode(column).decode() for column in strip.columns],
            },
            "epochs": self._causes.epochs(),
        }

    def take_changes(self) -> dict[str, Any] | None:
        """The changes since the last call; None if the page needs `to_json` instead."""
        changed, events, told = self.workers.take_changes(), self._new_events, self._told
        self._new_events = []
        self._told = (self._merges_count, self.workers.version, self._causes.version)
        if told != self._told or not len(self._history):
            self._told_epochs = len(self._causes)
            return None
        strip = self.workers.strip
        # The last epoch told may have grown as well.
        first_epoch, self._told_epochs = max(0, self._told_epochs - 1), len(self._causes)
        return {
            "now": self._now(),
            "point": [len(self._history) - 1, self._history.point()],
            "events": events,
            "workers": changed,
            "heat": [len(strip.numbers) - 1, strip.numbers[-1], b64encode(strip.columns[-1]).decode()],
            "epochs": [first_epoch, self._causes.epochs(first_epoch)],
        }

    def _now(self) -> dict[str, Any] | None:
        if self.latest is None:
            return None
        return {
            **{name: getattr(self.latest, name) for name in _NOW},
            "slot_seconds": round(self._slot_seconds, 2),
            "computed_seconds": round(min(self._computed_seconds, self._slot_seconds), 2),
            "left_out_count": self.workers.left_out_count,
            "causes": self._causes.run.to_json(),
        }


def _by_epoch(before: Snapshot, seen: Snapshot) -> Iterator[tuple[int, int, float]]:
    """The batches taken between two snapshots, as (epoch, number, share of the time)."""
    total = seen.batches_total - before.batches_total
    if seen.epoch <= before.epoch or total <= 0:
        yield seen.epoch, total, 1.0
        return
    newest = min(total, seen.taken_count)
    first = total - newest
    if seen.epoch > before.epoch + 1:  # epochs in between have passed as a whole
        first = min(first, max(0, before.length - before.taken_count))
        between = total - newest - first
        yield before.epoch, first, first / total
        yield seen.epoch - 1, between, between / total
    else:
        yield before.epoch, first, first / total
    yield seen.epoch, newest, newest / total


def _waited(seen: Snapshot) -> float:
    """The trainer's wait after the first batch, in seconds; before the first batch, all of its wait."""
    return seen.wait_seconds - seen.startup_wait_seconds if seen.batches_total else seen.wait_seconds
