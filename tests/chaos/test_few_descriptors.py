"""A low limit of open files, and batches of more sizes than there can be slabs of shared memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.scripts import run_script

_PROGRAM = """
import resource
import numpy as np
from enqueuer import SequenceEnqueuer

resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))


def size(index):
    return int(10_000 * 1.06 ** (index % 80))


class Growing:
    def __len__(self):
        return 240

    def __getitem__(self, index):
        with open("/dev/null"):  # as its user may
            return np.full(size(index), index)


with SequenceEnqueuer(Growing(), use_multiprocessing=True) as enqueuer:
    enqueuer.start(workers=2)
    for index, batch in enumerate(enqueuer.epoch()):
        files = [open("/dev/null") for _ in range(16)]
        assert len(batch) == size(index) and (batch == index).all()
        for file in files:
            file.close()
    print(index + 1, len(enqueuer._session.io._channels["local"].slabs.blocks._slabs))
"""


@pytest.mark.proves("batches of so many sizes that shared memory takes all file descriptors")
def test_batches_of_many_sizes_leave_descriptors_to_the_users_code_in_trainer_and_workers(tmp_path: Path) -> None:
    count, slabs_count = map(int, run_script(_PROGRAM, tmp_path).split())
    assert count == 240
    assert slabs_count >= 20
