"""HDF5 files opened for reading are opened again by local processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer import ConfigurationError, SequenceEnqueuer
from enqueuer.protocol.live_object import pack_object, unpack_object

h5py = pytest.importorskip("h5py")


class Rows:
    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["deep/rows"] = np.arange(20).reshape(10, 2)
    return tmp_path / "rows.h5"


def test_local_processes_read_from_a_data_set_of_a_file_that_the_trainer_opened(path: Path) -> None:
    with h5py.File(path) as file:
        with SequenceEnqueuer(Rows(file["deep/rows"]), use_multiprocessing=True) as enqueuer:
            enqueuer.start(workers=2)
            rows = np.stack(list(enqueuer.epoch()))
        assert (rows == file["deep/rows"][:]).all()


def test_files_and_groups_are_opened_again(path: Path) -> None:
    with h5py.File(path) as file:
        copies = unpack_object(pack_object([file, file["deep"]]))
    assert type(copies[0]) is h5py.File
    assert copies[0]["deep/rows"][1, 1] == copies[1]["rows"][1, 1] == 3
    copies[0].close()


@pytest.mark.parametrize("mode", ["r+", "a"])
def test_a_file_open_for_writing_is_refused(path: Path, mode: str) -> None:
    with h5py.File(path, mode) as file, pytest.raises(ConfigurationError, match="h5py objects cannot be pickled"):
        pack_object(file["deep/rows"])
