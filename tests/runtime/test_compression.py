"""Compressed batches from end to end: requested by the trainer, compressed by workers with the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer import SequenceEnqueuer, SequenceSpec
from tests.support.remote import RemoteWorker, environment

SPEC = SequenceSpec("tests.runtime.test_compression:Gradients", length=40)


class Gradients:
    """Arrays of 1.6 MB that compress well, and 200 KB of noise that does not."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(200_000) // 500 + index, np.random.default_rng(index).integers(0, 256, 200_000, np.uint8)


def ratio_after_an_exact_epoch(log: Path, compression: str | None, **worker: Any) -> float:
    with SequenceEnqueuer(SPEC, bind="tcp://127.0.0.1:*", shared_memory=False, compression=compression) as enqueuer:
        enqueuer.start(workers=0)
        assert enqueuer.endpoint is not None
        with RemoteWorker(enqueuer.endpoint, log, **worker):
            for index, (gradient, noise) in enumerate(enqueuer.epoch()):
                expected = Gradients(40)[index]
                assert (gradient == expected[0]).all()
                assert (noise == expected[1]).all()
            return enqueuer.stats().compression_ratio


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_batches_come_in_a_fraction_of_their_bytes_which_the_statistics_show(tmp_path: Path, compression: str) -> None:
    # Were all of it gradients, hundreds; were it all noise, 1.
    assert 5 < ratio_after_an_exact_epoch(tmp_path / "log", compression) < 9


def test_batches_through_shared_memory_do_not_count_in_the_ratio(tmp_path: Path) -> None:
    with SequenceEnqueuer(
        SPEC, use_multiprocessing=True, bind="tcp://127.0.0.1:*", compression="zstd", min_workers=2
    ) as enqueuer:
        enqueuer.start(workers=1)
        assert enqueuer.endpoint is not None
        # Only local processes share memory with us: the other one cannot meet us there.
        for channel in enqueuer._session.io._channels.values():
            if channel.codec is not None:
                channel.slabs.path.unlink()
        with RemoteWorker(enqueuer.endpoint, tmp_path / "log", processes=1):
            assert sum(1 for _ in enqueuer.epoch()) == 40
            assert 5 < enqueuer.stats().compression_ratio < 9


def test_without_the_option_nothing_is_compressed(tmp_path: Path) -> None:
    assert ratio_after_an_exact_epoch(tmp_path / "log", None) == 1.0


def test_a_worker_without_the_library_says_so_and_sends_batches_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "lz4.py").write_text("raise ImportError('not here')")
    python_path = f"{tmp_path}:{environment()['PYTHONPATH']}"
    ratio = ratio_after_an_exact_epoch(tmp_path / "log", "lz4", variables={"PYTHONPATH": python_path})
    assert ratio == 1.0
    assert "pip install 'enqueuer[compression]'" in (tmp_path / "log").read_text()


def test_local_processes_are_never_asked_to_compress() -> None:
    with SequenceEnqueuer(Gradients(20), True, shared_memory=False, compression="lz4") as enqueuer:
        enqueuer.start(workers=2)
        assert sum(1 for _ in enqueuer.epoch()) == 20
        assert enqueuer.stats().compression_ratio == 1.0
