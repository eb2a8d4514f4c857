"""Batches of handwritten digits for an example: two local processes and one remote worker augment them.

The example starts the remote worker itself, on the same host, and the worker connects over TCP. On another machine the
command is ``enqueuer worker --connect tcp://TRAINER:PORT --allow enqueuer.demo``, and the trainer needs keys and
``bind="tcp://0.0.0.0:PORT"``.
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
    """Images for the evaluation, not augmented: x float32 (n, 16, 16, 1), y int64 (n,)."""
    digits = load_digits()
    return decode_all(digits.held_out, digits.mode, digits.image_size)


@contextmanager
def augmented_digits() -> Iterator[SequenceEnqueuer]:
    """A running enqueuer of batches like those of `held_out`; its three workers are connected."""
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
        worker.terminate()  # it finishes the batches it holds, then ends
        worker.wait()
