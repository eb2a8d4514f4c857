"""Handles of files opened for reading are opened again in a process of this host; others are refused."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer import ConfigurationError, SequenceEnqueuer
from enqueuer.protocol.live_object import pack_object, unpack_object


class Records:
    """Reads its items from handles that the trainer opened."""

    def __init__(self, folder: Path) -> None:
        folder.joinpath("rows.bin").write_bytes(bytes(range(40)))
        np.savez(folder / "rows.npz", rows=np.arange(40))
        with zipfile.ZipFile(folder / "rows.zip", "w") as archive:
            for number in range(40):
                archive.writestr(str(number), bytes([number]))
        self.binary = folder.joinpath("rows.bin").open("rb")
        self.arrays = np.load(folder / "rows.npz")
        self.archive = zipfile.ZipFile(folder / "rows.zip")

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> list[int]:
        self.binary.seek(index)
        return [self.binary.read(1)[0], int(self.arrays["rows"][index]), self.archive.read(str(index))[0]]

    def close(self) -> None:
        for handle in (self.binary, self.arrays, self.archive):
            handle.close()


def sent(value: Any) -> Any:
    return unpack_object(pack_object(value))


def test_local_processes_read_from_handles_that_the_trainer_opened(tmp_path: Path) -> None:
    records = Records(tmp_path)
    with SequenceEnqueuer(records, use_multiprocessing=True) as enqueuer:
        enqueuer.start(workers=2)
        assert list(enqueuer.epoch()) == [[number] * 3 for number in range(40)]
    records.close()


@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_binary_file_is_opened_again_at_its_position(tmp_path: Path, buffering: int) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"0123456789")
    with path.open("rb", buffering=buffering) as file:
        assert file.read(3) == b"012"
        with sent(file) as copy:
            assert type(copy) is type(file)
            assert copy.read(2) == b"34"
        assert file.read(2) == b"34", "its own position"


def test_a_name_counts_from_the_directory_of_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows").write_bytes(b"0123")
    with Path("rows").open("rb") as file:
        parts = pack_object(file)
        monkeypatch.chdir("/")
        with unpack_object(parts) as copy:
            assert copy.read() == b"0123"


def test_an_archive_of_arrays_keeps_its_options(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", rows=np.array([{"a": 1}], dtype=object))
    with np.load(tmp_path / "rows.npz", allow_pickle=True) as archive, sent(archive) as copy:
        assert copy["rows"][0] == {"a": 1}


def replaced(path: Path) -> Any:
    file = path.open("rb")
    path.rename(path.with_name("other"))
    path.write_bytes(b"of another")
    return file


def gone(path: Path) -> Any:
    file = path.open("rb")
    path.unlink()
    return file


OPENERS: dict[str, Callable[[Path], Any]] = {
    "for writing": lambda path: path.open("ab"),
    "for both": lambda path: path.open("r+b"),
    "raw, for both": lambda path: io.FileIO(path, "r+"),
    "replaced": replaced,
    "gone": gone,
    "a device": lambda _: Path("/dev/zero").open("rb"),  # noqa: SIM115 - the test closes it
    "a descriptor": lambda path: io.FileIO(os.open(path, os.O_RDONLY)),
}


@pytest.mark.parametrize("name", OPENERS)
def test_other_handles_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"0123")
    with OPENERS[name](path) as file, pytest.raises(ConfigurationError, match="cannot pickle"):
        pack_object(file)


def test_another_host_has_other_files_so_handles_are_refused_there(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"0123")
    with path.open("rb") as file, pytest.raises(ConfigurationError, match="cannot pickle"):
        pack_object(file, maps_files=False)
