"""Run by `test_datasets`: Hugging Face datasets as the Sequence of an enqueuer."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pyarrow
import pytest

from enqueuer import SequenceEnqueuer, SequenceSpec, Timing
from enqueuer.adapters.datasets import from_dataset
from enqueuer.compute.library_settings import read_process_settings
from tests.support.remote import RemoteWorker, free_address

ROWS = 10


def rows(count: int = ROWS) -> Any:
    return datasets.Dataset.from_dict(
        {
            "x": [[index, index + 0.5] for index in range(count)],
            "text": [str(index) for index in range(count)],
            "ragged": [list(range(index % 3)) for index in range(count)],
            "label": list(range(count)),
        }
    )


def big() -> Any:
    """40 MB in 5 rows."""
    values = pyarrow.array(np.arange(5_000_000, dtype=np.int64))
    return datasets.Dataset(pyarrow.table({"x": pyarrow.FixedSizeListArray.from_arrays(values, 1_000_000)}))


def saved(path: str) -> Any:
    """The Sequence of a remote worker."""
    return from_dataset(datasets.load_from_disk(path), 4, shuffle=True, seed=3)


def received(enq: SequenceEnqueuer, sequence: Any, epochs: int = 1, workers: int = 1) -> list[Any]:
    enq.sequence = sequence
    enq.start(workers, epoch=0)
    batches = [batch for _ in range(epochs) for batch in enq.epoch()]
    enq.stop()
    return batches


@pytest.fixture(scope="module")
def processes() -> Iterator[SequenceEnqueuer]:
    """Worker processes for all tests, since importing datasets takes each of them seconds."""
    with SequenceEnqueuer(from_dataset(rows(), 4), use_multiprocessing=True, persistent_workers=True, seed=1) as made:
        yield made


def test_batches_are_dicts_of_columns() -> None:
    source = from_dataset(rows(), 4)
    assert len(source) == 3
    batch = source[1]
    assert batch["x"].tolist() == [[4, 4.5], [5, 5.5], [6, 6.5], [7, 7.5]]
    assert batch["text"].tolist() == ["4", "5", "6", "7"]
    assert [part.tolist() for part in batch["ragged"]] == [[0], [0, 1], [], [0]]
    assert batch["label"].tolist() == [4, 5, 6, 7] and batch["label"].flags.writeable
    assert source[2]["label"].tolist() == [8, 9]
    assert len(from_dataset(rows(), 4, drop_last=True)) == 2


def test_processes_deliver_the_same_batches(processes: SequenceEnqueuer) -> None:
    batches = received(processes, from_dataset(rows(), 4), 2)
    assert [batch["label"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]] * 2
    assert [part.tolist() for part in batches[1]["ragged"]] == [[0], [0, 1], [], [0]]


def test_shuffled_rows_come_once_an_epoch_in_an_order_of_its_own(tmp_path: Path) -> None:
    rows().save_to_disk(tmp_path / "rows")
    address = free_address()
    spec = SequenceSpec("tests.adapters.in_datasets:saved", path=str(tmp_path / "rows"))
    with (
        RemoteWorker(address, tmp_path / "log", processes=1, arguments=("--drain-timeout", "2")),
        SequenceEnqueuer(spec, bind=address, timing=Timing(heartbeat_interval=0.2), seed=1) as enq,
    ):
        remote = received(enq, spec, 2, workers=0)
    with SequenceEnqueuer(rows()) as enq:
        local = received(enq, from_dataset(rows(), 4, shuffle=True, seed=3), 2)
    labels = [batch["label"].tolist() for batch in local]
    assert [batch["label"].tolist() for batch in remote] == labels
    first, second = sum(labels[:3], []), sum(labels[3:], [])  # noqa: RUF017
    assert sorted(first) == sorted(second) == list(range(ROWS))
    assert first != second


@pytest.mark.parametrize("kind", ["numpy", "torch", "jax"])
def test_a_format_that_was_set_is_kept(kind: str) -> None:
    pytest.importorskip(kind)
    dataset = rows()
    dataset.set_format(kind, columns=["x", "label"])
    batch = from_dataset(dataset, 4)[0]
    assert set(batch) == {"x", "label"}
    assert all(isinstance(column, np.ndarray) for column in batch.values())
    assert batch["x"].tolist() == [[0, 0.5], [1, 1.5], [2, 2.5], [3, 3.5]]


def test_a_transform_runs_on_the_workers(processes: SequenceEnqueuer) -> None:
    def transform(batch: Any) -> Any:
        noise = np.random.standard_normal(3)
        return {"image": [np.full((2, 2), label, np.float32) + noise[0] for label in batch["label"]], **batch}

    first = received(processes, from_dataset(rows().with_transform(transform), 4))
    assert first[1]["image"].shape == (4, 2, 2)
    assert first[1]["label"].tolist() == [4, 5, 6, 7]
    assert first[1]["text"] == ["4", "5", "6", "7"]
    again = received(processes, from_dataset(rows().with_transform(transform), 4))
    assert all(np.array_equal(one["image"], other["image"]) for one, other in zip(first, again, strict=True))
    assert not np.array_equal(first[0]["image"][0], first[1]["image"][0] - 4)


def test_a_collate_fn_gets_the_rows() -> None:
    def collate(batch: list[Any]) -> Any:
        return np.array([row["label"] for row in batch]), [row["text"] for row in batch]

    label, text = from_dataset(rows(), 4, collate_fn=collate)[1]
    assert (label.tolist(), text) == ([4, 5, 6, 7], ["4", "5", "6", "7"])
    assert from_dataset(rows().with_format("pandas"), 4, collate_fn=len)[0] == 4


def test_streams_and_tables_are_refused() -> None:
    with pytest.raises(TypeError, match="DatasetDict"):
        from_dataset(datasets.DatasetDict({"train": rows()}), 4)
    with pytest.raises(TypeError, match="streaming"):
        from_dataset(rows().to_iterable_dataset(), 4)
    with pytest.raises(TypeError, match="collate_fn"):
        from_dataset(rows().with_format("arrow"), 4)


def _footprint(rows: list[Any]) -> Any:
    """The dataset's memory in a worker: bytes allocated by Arrow, and the mapped files."""
    mapped = {
        line.split(maxsplit=5)[5].strip() for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line
    }
    return {"allocated": pyarrow.total_allocated_bytes(), "mapped": sorted(mapped), "x": rows[0]["x"][:2].tolist()}


def test_a_dataset_on_disk_is_mapped_and_not_copied(processes: SequenceEnqueuer, tmp_path: Path) -> None:
    big().save_to_disk(tmp_path / "big")
    dataset = datasets.load_from_disk(tmp_path / "big").with_format("numpy")
    batch = received(processes, from_dataset(dataset, 1, collate_fn=_footprint))[3]
    assert any(str(tmp_path) in name and name.endswith(".arrow") for name in batch["mapped"])
    assert batch["allocated"] < 1_000_000
    assert batch["x"] == [3_000_000, 3_000_001]


def test_a_dataset_in_memory_is_shared_and_not_copied(processes: SequenceEnqueuer) -> None:
    batch = received(processes, from_dataset(big().with_format("numpy"), 1, collate_fn=_footprint))[3]
    assert any("memfd" in name for name in batch["mapped"])
    assert batch["allocated"] < 1_000_000
    assert batch["x"] == [3_000_000, 3_000_001]


def test_pandas_settings_are_read_without_a_warning() -> None:
    assert pandas
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert any(name.startswith("pandas:options.future") for name in read_process_settings())
