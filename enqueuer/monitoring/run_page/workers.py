"""The latest rows of a run's workers, in bounded number, with the strip of their item times."""

from __future__ import annotations

from typing import Any

from enqueuer.monitoring.run_page.heat_strip import ABSENT, HeatStrip, level_of
from enqueuer.protocol.observation import Snapshot, WorkerRow

_GONE = "gone"
_LEAVING = frozenset(("left", "rejected", "died", "lost"))
# A worker is gone after so many rounds over the fleet without its row; one round may miss it, as rows move up.
_MISSED_ROUNDS = 2

_Key = tuple[str, str, int]


class Workers:
    """Takes pages of a snapshot's rows, in rounds over the fleet.

    ``version`` counts how often rows were dropped and renumbered. Workers beyond ``most`` at a time are left out. Of
    the departed workers, the latest stay.
    """

    def __init__(self, most: int = 2_000) -> None:
        self.strip = HeatStrip()
        self.version = 0
        # The number of present workers without a row.
        self.left_out_count = 0
        self._most = most
        self._rows: list[WorkerRow] = []
        self._is_gone: list[bool] = []
        self._missed: list[int] = []
        self._numbers: dict[_Key, int] = {}
        # The rows seen in this round; the rows changed since `take_changes`.
        self._seen: set[int] = set()
        self._changed: set[int] = set()

    def add(self, seen: Snapshot) -> None:
        """Take the rows of a snapshot."""
        if self.strip.open(seen.elapsed_seconds):
            self.version += 1
        for _, _, what, worker in seen.events:
            if what in _LEAVING:
                self._note_leaving(worker)
        if seen.first_row == 0 and (seen.rows or not seen.rows_total):
            self._end_round()
        for row in seen.rows:
            self._add_row(row)

    def _add_row(self, row: WorkerRow) -> None:
        key = (row.worker_id, row.host, row.pid)
        number = self._numbers.get(key)
        if number is None:
            if len(self._rows) >= self._most:
                self._drop_gone()
            if len(self._rows) >= self._most:
                self.left_out_count += 1
                return
            number = self._numbers[key] = len(self._rows)
            self._rows.append(row)
            self._is_gone.append(False)
            self._missed.append(0)
        self._rows[number] = row
        self._is_gone[number] = False
        self._seen.add(number)
        self._changed.add(number)
        self.strip.set(number, level_of(row.item_seconds))

    def _end_round(self) -> None:
        for number, is_gone in enumerate(self._is_gone):
            self._missed[number] = 0 if number in self._seen else self._missed[number] + 1
            if not is_gone and self._missed[number] >= _MISSED_ROUNDS:
                self._let_go(number)
        self._seen.clear()
        self.left_out_count = 0

    def _note_leaving(self, name: str) -> None:
        for number, row in enumerate(self._rows):
            if not self._is_gone[number] and f"{row.worker_id} on {row.host}" == name:
                self._let_go(number)

    def _let_go(self, number: int) -> None:
        self._is_gone[number] = True
        self._changed.add(number)
        self.strip.set(number, ABSENT)

    def _drop_gone(self) -> None:
        """Drop the earlier half of the departed workers."""
        gone = [number for number, is_gone in enumerate(self._is_gone) if is_gone]
        dropped = set(gone[: (len(gone) + 1) // 2])
        if not dropped:
            return
        kept = [number for number in range(len(self._rows)) if number not in dropped]
        self.strip.keep(kept)
        moved = {number: place for place, number in enumerate(kept)}
        self._rows = [self._rows[number] for number in kept]
        self._is_gone = [self._is_gone[number] for number in kept]
        self._missed = [self._missed[number] for number in kept]
        self._numbers = {key: moved[number] for key, number in self._numbers.items() if number in moved}
        self._seen = {moved[number] for number in self._seen if number in moved}
        self.version += 1

    # ------------------------------------------------------------ for the page

    def take_changes(self) -> list[list[Any]]:
        """The rows changed since the last call, each after its number."""
        changed, self._changed = sorted(self._changed), set()
        return [[number, *self._to_json(number)] for number in changed if number < len(self._rows)]

    def to_json(self) -> list[list[Any]]:
        """All rows."""
        return [self._to_json(number) for number in range(len(self._rows))]

    def _to_json(self, number: int) -> list[Any]:
        row = self._rows[number]
        return [
            row.worker_id,
            row.host,
            row.pid,
            _GONE if self._is_gone[number] else row.state,
            row.slots,
            row.leases_count,
            row.batches_count,
            row.received_bytes,
            float(f"{row.item_seconds:.4g}"),
            float(f"{row.item_seconds_p50:.4g}"),
            float(f"{row.item_seconds_p95:.4g}"),
            None if self._is_gone[number] else row.computing,
            row.memory_bytes,
        ]
