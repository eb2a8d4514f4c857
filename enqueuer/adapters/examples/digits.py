"""What the examples have in common: handwritten digits, augmented by two processes here and one remote worker.

The remote worker is a program of its own that this one starts on the same host and that connects over TCP. On another
machine it is ``enqueuer worker --connect tcp://TRAINER:PORT --allow enqueuer.demo``, and the trainer binds to
``tcp://0.0.0.0:PORT``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from enqueuer import SequenceEnqueuer, SequenceSpec
from enqueuer.demo.augment import decode_all
from enqueuer.demo.classifier import Floats
from enqueuer.demo.dataset import Labels
from enqueuer.demo.digits import load_digits

BATCH_SIZE = 32
# scikit-learn's digits, as they come out of the augmentation.
SAMPLE_SHAPE = (16, 16, 1)
_START_SECONDS = 60.0


def held_out() -> tuple[Floats, Labels]:
    """Images that nobody trains on, not augmented: x float32 (n, 16, 16, 1), y int64 (n,)."""
    digits = load_digits()
    return decode_all(digits.held_out, digits.mode, digits.image_size)


@contextmanager
def augmented_digits() -> Iterator[SequenceEnqueuer]:
    """A running enqueuer of batches like those of `held_out`, whose three workers are there."""
    spec = SequenceSpec(
        "enqueuer.demo.augment:make_sequence",
        images=None,
        batch_size=BATCH_SIZE,
        fingerprint=load_digits().fingerprint(),
    )
    with SequenceEnqueuer(spec, use_multiprocessing=True, shuffle=True, seed=1, bind="tcp://127.0.0.1:*") as enq:
        enq.start(workers=2, max_queue_size=32)
        with _remote_worker(str(enq.endpoint)):
            enq.wait_for_workers(3, _START_SECONDS)
            yield enq


@contextmanager
def _remote_worker(address: str) -> Iterator[None]:
    command = [sys.executable, "-m", "enqueuer_worker", "--connect", address, "--processes", "1"]
    worker = subprocess.Popen([*command, "--allow", "enqueuer.demo"], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        worker.terminate()  # it finishes what it holds, and goes
        worker.wait()
