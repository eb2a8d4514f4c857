"""A training that believes nothing: at its end, all that it ever took is compared with a stream that had no workers.

Saves itself after every batch, so that it may be killed at any time. Ends at an epoch's end after SIGUSR1. It prints
``batch N`` now and then, ``gap SECONDS before batch N`` for each wait that can be noticed, over its own restarts too,
and ``exact: …`` or ``WRONG: …`` at last.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from enqueuer import SequenceEnqueuer, SequenceSpec

SAVED = Path("/training/saved.json")
COUNT, SEED = 200, 11
# 64 KiB a batch: large enough for shared memory.
SIZE = 128
NOTICED_SECONDS = 0.1


def spec(seconds: float) -> SequenceSpec:
    return SequenceSpec("data:Batches", count=COUNT, seconds=seconds, size=SIZE)


def chained(digest: str, batch: Any) -> str:
    """What was taken so far and one more: another order, or one batch too many or too few, is another digest."""
    numbers, index = batch
    return hashlib.sha256(digest.encode() + numbers.tobytes() + bytes([index % 256, index // 256])).hexdigest()


def reference(batches_count: int) -> str:
    """The digest of so many batches, computed here one after the other."""
    digest = ""
    with SequenceEnqueuer(spec(0.0), shuffle=True, seed=SEED) as alone:
        alone.start(0)
        batches = alone.get()
        for _ in range(batches_count):
            digest = chained(digest, next(batches))
    return digest


class Training:
    def __init__(self) -> None:
        self.count, self.digest, self.at = 0, "", time.time()
        self.state: dict[str, Any] | None = None
        if SAVED.exists():
            self.count, self.digest, self.at, self.state = json.loads(SAVED.read_text())
            print(f"resuming after batch {self.count}", flush=True)

    def take(self, batch: Any, state: dict[str, Any]) -> None:
        now = time.time()
        self.count += 1
        if now - self.at >= NOTICED_SECONDS:
            print(f"gap {now - self.at:.2f} s before batch {self.count}", flush=True)
        if self.count % 20 == 0:
            print(f"batch {self.count}", flush=True)
        self.digest, self.at = chained(self.digest, batch), now
        unfinished = SAVED.with_suffix(".unfinished")
        unfinished.write_text(json.dumps([self.count, self.digest, self.at, state]))
        unfinished.replace(SAVED)

    def run(self) -> None:
        """Until SIGUSR1 and then the end of an epoch."""
        with SequenceEnqueuer(
            spec(0.03),
            shuffle=True,
            seed=SEED,
            bind="tcp://0.0.0.0:5555",
            data_bind="tcp://0.0.0.0:5556",
            advertise=os.environ.get("ADVERTISE") or None,
        ) as enqueuer:
            if self.state is not None:
                enqueuer.load_state_dict(self.state)
            enqueuer.start(0, max_queue_size=20)
            asked: list[int] = []
            signal.signal(signal.SIGUSR1, lambda number, _: asked.append(number))
            for batch in enqueuer.get():
                self.take(batch, enqueuer.state_dict())
                if asked and self.count % COUNT == 0:
                    return


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S")
    training = Training()
    training.run()
    right = training.digest == reference(training.count)
    print(f"{'exact' if right else 'WRONG'}: {training.count} batches in {training.count // COUNT} epochs", flush=True)
    sys.exit(0 if right else 1)
