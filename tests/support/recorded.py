"""Observations of real trainings, recorded to be shown again.

`python -m tests.support.recorded` records `tests/top/recorded.json` anew: 20 seconds of a training on three local
processes, of which one is killed.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from enqueuer import SequenceEnqueuer
from enqueuer.observer import local_observers
from enqueuer.protocol.observation import Snapshot, WorkerRow
from enqueuer.top.paging import Paging

RECORDED = Path(__file__).parents[1] / "top" / "recorded.json"
_SECONDS = 20.0
_KILL_AFTER = 8.0


def recorded_pages(path: Path = RECORDED) -> list[Snapshot]:
    """The pages of this recording, in their order."""
    return [_page(fields) for fields in json.loads(path.read_text())]


def _page(fields: dict[str, Any]) -> Snapshot:
    rows = []
    for row in fields.pop("rows"):
        computing = row.pop("computing")
        rows.append(WorkerRow(**row, computing=tuple(computing) if computing is not None else None))
    counts, events = tuple(fields.pop("item_counts")), tuple(map(tuple, fields.pop("events")))
    return Snapshot(**fields, rows=tuple(rows), item_counts=counts, events=events)


class Images:
    """Items of 20 ms; each seventh takes longer."""

    def __len__(self) -> int:
        return 500

    def __getitem__(self, index: int) -> np.ndarray:
        time.sleep(0.05 if index % 7 == 0 else 0.02)
        return np.zeros((64, 1_000), np.float32)


def record(path: Path) -> None:
    """Write a recording to this file."""
    is_over = threading.Event()

    def train() -> None:
        for _ in enqueuer.get():
            time.sleep(0.006)
            if is_over.is_set():
                return

    pages = []
    with SequenceEnqueuer(Images(), use_multiprocessing=True) as enqueuer:
        enqueuer.start(workers=3)
        training = threading.Thread(target=train)
        training.start()
        [observer] = [one for one in local_observers() if f"/{os.getpid()}-" in one.address]
        paging, end, is_killed = Paging(), time.monotonic() + _SECONDS, False
        with observer:
            while time.monotonic() < end:
                page = observer.page(paging.first_row, paging.rows_count, after_event=paging.after_event)
                pages.append(page)
                if not is_killed and page.elapsed_seconds > _KILL_AFTER and page.rows:
                    os.kill(page.rows[-1].pid, signal.SIGKILL)
                    is_killed = True
                time.sleep(paging.take(page))
        is_over.set()
        training.join()
    path.write_text("[\n" + ",\n".join(json.dumps(_anonymous(page)) for page in pages) + "\n]\n")


def _anonymous(page: Snapshot) -> dict[str, Any]:
    """Without the name of the machine that it was recorded on."""
    fields = page._asdict()
    host = fields["host"]
    fields["host"] = "gpu-1"
    fields["rows"] = [row._replace(host=row.host.replace(host, "gpu-1"))._asdict() for row in page.rows]
    fields["events"] = [
        (number, seconds, what, worker.replace(host, "gpu-1")) for number, seconds, what, worker in fields["events"]
    ]
    return fields


if __name__ == "__main__":
    record(RECORDED)
