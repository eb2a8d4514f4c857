"""Arrays and tensors of other classes on mapped or shared memory are shared with the reader, or refused by name."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.managers import BaseManager
from multiprocessing.process import current_process
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer.errors import ConfigurationError
from enqueuer.protocol.live_object import pack_object, unpack_object

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what a mapping is of")


class Scaled(np.ndarray):
    """Has an attribute of its own."""

    scale: int = 1


class Recorded(np.memmap):
    pass


class Copies(np.ndarray):
    def __reduce__(self) -> Any:
        return np.array, (self.tolist(),)


def travelled(value: Any, *, maps_files: bool = True) -> Any:
    return unpack_object(pack_object(value, maps_files=maps_files))


def in_shared_memory() -> np.ndarray[Any, Any]:
    return np.frombuffer(multiprocessing.RawArray("i", 8), np.int32)


def in_a_file(path: Path) -> np.ndarray[Any, Any]:
    return np.memmap(path, np.int32, "w+", shape=(8,))


@pytest.fixture(params=["shared memory", "a file"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> np.ndarray[Any, Any]:
    return in_shared_memory() if request.param == "shared memory" else in_a_file(tmp_path / "numbers")


VIEWS: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "a subclass": lambda array: array.view(Scaled),
    "a part of a subclass": lambda array: array.view(Scaled)[2::3],
    "a subclass of memmap": lambda array: array.view(Recorded),
    "a masked array": lambda array: np.ma.MaskedArray(array, mask=[True] + [False] * 7),
}


def test_a_file_that_a_subclass_of_memmap_maps_is_mapped_again(tmp_path: Path) -> None:
    in_a_file(tmp_path / "numbers")[:] = range(8)
    array: Any = Recorded(tmp_path / "numbers", np.int32, "r")
    again = travelled(array)
    assert (type(again), again.tolist(), again.flags.writeable) == (Recorded, [*range(8)], False)
    in_a_file(tmp_path / "numbers")[5] = 70
    assert again[5] == 70


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_the_memory_is_shared(view: Any, memory: np.ndarray[Any, Any]) -> None:
    array = view(memory)
    again = travelled(array)
    assert type(again) is type(array)
    assert again.shape == array.shape
    memory[5] = 7
    assert 7 in again.tolist()
    again[...] = 9
    assert 9 in memory.tolist()


def test_attributes_travel_with_it() -> None:
    array = in_shared_memory().view(Scaled)
    array.scale = 5
    assert travelled(array).scale == 5


def test_a_mask_travels_with_it() -> None:
    array = np.ma.MaskedArray(in_shared_memory(), mask=[True] + [False] * 7, fill_value=3, hard_mask=True)
    again = travelled(array)
    assert again.mask.tolist() == array.mask.tolist()
    assert again.fill_value == 3
    assert again.hardmask


def test_a_class_that_pickles_itself_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="Copies has a __reduce__ of its own"):
        pack_object(in_shared_memory().view(Copies))


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_on_memory_of_its_own_it_is_copied_as_ever(view: Any) -> None:
    array = view(np.arange(8))
    again = travelled(array)
    assert again.tolist() == array.tolist()
    again[...] = 9
    assert 9 not in np.asarray(array).tolist()


def test_it_is_refused_for_other_hosts() -> None:
    with pytest.raises(ConfigurationError, match="workers on other hosts cannot map it"):
        travelled(in_shared_memory().view(Scaled), maps_files=False)


def test_a_tensor_of_a_subclass_is_shared() -> None:
    torch = pytest.importorskip("torch")

    class Named(torch.Tensor):  # type: ignore[misc, name-defined]
        pass

    tensor = torch.zeros(8).share_memory_().as_subclass(Named)
    tensor.name_of_it = "levels"
    again = travelled(tensor)
    assert type(again).__name__ == "Named"
    assert again.name_of_it == "levels"
    again[3] = 9
    assert tensor[3] == 9


class Server(BaseManager):
    pass


Server.register("Numbers", list)


def test_a_proxy_of_a_manager_brings_its_key_along(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as server:
        numbers = server.Numbers([1, 2])  # type: ignore[attr-defined]
        parts = pack_object(numbers)
        # Another process has another key.
        monkeypatch.setattr(current_process(), "authkey", b"another")
        again = unpack_object(parts)
        again.append(3)
        assert numbers.copy() == [1, 2, 3]
        del again
