"""Arrays in mapped files are mapped again, as they are in the trainer; what cannot be is copied, or refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer.errors import ConfigurationError
from enqueuer.protocol.live_object import carried_parts, carried_state, pack_bundle, pack_object, unpack_object

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what a mapping is of")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "numbers"
    np.arange(100_000, dtype=np.int32).tofile(file)
    return file


def mapped(path: Path, mode: Any = "r", offset: int = 0) -> np.memmap[Any, Any]:
    return np.memmap(path, np.int32, mode, offset)


def travelled(value: Any) -> Any:
    return unpack_object(pack_object(value))


def stream_bytes(value: Any) -> int:
    return sum(part.nbytes for part in pack_object(value))


@pytest.mark.parametrize("mode", ["r", "r+", pytest.param("c", marks=on_linux)])
@pytest.mark.parametrize("offset", [0, 40, 4096, 8232])
def test_a_mapped_file_is_mapped_again(path: Path, mode: str, offset: int) -> None:
    array = mapped(path, mode, offset)
    back = travelled(array)
    assert type(back) is np.memmap
    assert np.array_equal(back, array)
    assert (back.mode, back.offset, back.filename) == (mode, offset, str(path))
    assert back.flags.writeable == array.flags.writeable
    assert stream_bytes(array) < 1000


VIEWS = {
    "slice": lambda array: array[5:9_000],
    "one element": lambda array: array[7:8],
    "steps": lambda array: array[3::7],
    "backwards": lambda array: array[::-3],
    "slice of a slice": lambda array: array[10:][::2][5:],
    "reshaped": lambda array: array[:9_000].reshape(90, 100),
    "fortran": lambda array: array[:9_000].reshape(90, 100, order="F"),
    "transposed": lambda array: array[:9_000].reshape(9, 10, 100).transpose(2, 0, 1),
    "both ways": lambda array: array[:9_000].reshape(90, 100)[::-1, ::2],
    "another type": lambda array: array[:90].view(np.int16),
    "plain": np.asarray,
    "plain slice": lambda array: np.asarray(array)[11:],
    "of a plain slice": lambda array: np.asarray(array[100:])[3:][::-1],
    "broadcast": lambda array: np.broadcast_to(array[:5], (3, 5)),
    "windows": lambda array: np.lib.stride_tricks.sliding_window_view(array[:50], 5),
}


@pytest.mark.parametrize("kind", VIEWS)
def test_views_of_a_mapping_are_views_of_the_workers_mapping(path: Path, kind: str) -> None:
    view = VIEWS[kind](mapped(path, offset=80))
    back = travelled(view)
    assert type(back) is type(view)
    assert np.array_equal(back, view)
    assert (back.shape, back.strides, back.dtype) == (view.shape, view.strides, view.dtype)
    assert back.flags.writeable == view.flags.writeable
    assert stream_bytes(view) < 1000


def test_a_view_that_may_not_be_written_to_stays_so(path: Path) -> None:
    view = mapped(path, "r+")[5:]
    view.flags.writeable = False
    assert not travelled(view).flags.writeable


def test_arrays_in_one_mapping_share_one_in_the_worker(path: Path) -> None:
    whole = mapped(path, "r+")
    back, part, plain = travelled([whole, whole[50:], np.asarray(whole)])
    assert np.shares_memory(back, part)
    assert np.shares_memory(back, plain)


def test_two_mappings_of_one_file_stay_two(path: Path) -> None:
    private, shared = travelled([mapped(path, "c"), mapped(path, "r+")])
    private[0] = 5
    assert shared[0] == 0


def test_a_view_of_a_view_that_came_back_travels_again(path: Path) -> None:
    once = travelled(mapped(path, offset=8232))[100:]
    assert np.array_equal(travelled(once), once)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_loaded_array_file_is_mapped_again(tmp_path: Path, order: Any) -> None:
    whole = np.asarray(np.arange(60_000.0).reshape(200, 300), order=order)
    np.save(tmp_path / "a.npy", whole)
    array = np.load(tmp_path / "a.npy", mmap_mode="r")
    back = travelled(array)
    assert np.array_equal(back, whole)
    assert back.flags.f_contiguous == (order == "F")
    assert stream_bytes(array) < 1000


def test_structured_rows_are_mapped_again(tmp_path: Path) -> None:
    rows = np.zeros(5_000, dtype=[("kind", "i4"), ("at", "f8", 2)])
    rows["kind"] = np.arange(5_000)
    rows.tofile(tmp_path / "rows")
    array = np.memmap(tmp_path / "rows", rows.dtype, "r")
    back = travelled([array, array["kind"]])
    assert np.array_equal(back[0], rows)
    assert np.array_equal(back[1], rows["kind"])


def test_a_file_that_the_trainer_made_is_never_emptied(tmp_path: Path) -> None:
    array = np.memmap(tmp_path / "new", np.int32, "w+", shape=5_000)
    array[:] = 7
    back = travelled(array)
    assert (back.mode, back.sum()) == ("r+", 35_000)
    array[0] = 8
    assert back[0] == 8


def test_pages_that_the_trainer_changed_for_itself_are_copied(path: Path) -> None:
    array = mapped(path, "c")
    array[5] = -1
    back, plain = travelled([array, np.asarray(array)])
    assert type(back) is np.memmap
    assert back[5] == plain[5] == -1
    assert np.array_equal(back, array)


def test_copies_and_results_of_a_mapping_travel_as_arrays_do(path: Path) -> None:
    array = mapped(path)
    for made in (array.copy(), array + 1, array[:0], array[[3, 4]]):
        back = travelled(made)
        assert type(back) is type(made)
        assert np.array_equal(back, made)


@on_linux
def test_a_file_that_was_renamed_is_found(path: Path) -> None:
    array = mapped(path)
    path.rename(path.with_suffix(".moved"))
    assert np.array_equal(travelled(array), array)


@on_linux
def test_a_file_that_was_deleted_is_refused_by_name(path: Path) -> None:
    array = mapped(path)
    path.unlink()
    with pytest.raises(ConfigurationError, match=rf"{re.escape(str(path))}.*deleted or replaced"):
        pack_object([array[5:]])


@on_linux
def test_a_file_that_was_replaced_is_refused_by_name(path: Path) -> None:
    array = mapped(path)
    other = path.with_suffix(".new")
    np.zeros(100_000, np.int32).tofile(other)
    other.rename(path)
    with pytest.raises(ConfigurationError, match=rf"{re.escape(str(path))}.*deleted or replaced"):
        pack_object(array)


def test_a_file_that_was_cut_off_is_refused_by_name(path: Path) -> None:
    array = mapped(path)
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ConfigurationError, match=rf"{re.escape(str(path))}.*1000 bytes"):
        pack_object(array)


def test_without_what_linux_knows_a_missing_file_is_refused_by_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enqueuer.protocol.mapped_arrays._look_up", lambda *_, **__: None)
    array, private = mapped(path), mapped(path, "c")
    assert np.array_equal(travelled(array), array)
    assert stream_bytes(private) > private.nbytes, "its own pages cannot be told from the file's"
    path.unlink()
    with pytest.raises(ConfigurationError, match=re.escape(str(path))):
        pack_object(array)


def test_to_another_host_the_content_travels(path: Path) -> None:
    held = {"mapped": mapped(path)}
    parts = carried_parts(carried_state(pack_bundle(held)))
    path.unlink()
    assert unpack_object(parts[1:])["mapped"].sum() == np.arange(100_000).sum()


def test_a_mapping_that_is_too_large_for_another_host_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 36)
    bundle = pack_bundle([np.memmap(tmp_path / "huge", np.uint8, "r")])
    with pytest.raises(ConfigurationError, match="SequenceSpec"):
        carried_state(bundle)
