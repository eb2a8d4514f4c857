"""Batches that a Sequence writes directly into shared memory, and batches that are copied there."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from enqueuer.compute.worker_items import Instance, WorkerItems
from enqueuer.memory.arena import Arena
from enqueuer.memory.mapped_blocks import MappedBlocks
from enqueuer.protocol.batch import EncodedBatch, Trust
from enqueuer.protocol.results_codec import Results, encode_results
from enqueuer_worker.sequence.batch_maker import BatchMaker
from tests.support.results import decode_results

SESSION, INCARNATION = b"s" * 16, b"i" * 16


def items_of(sequence: Any) -> WorkerItems:
    return WorkerItems(Instance(sequence, is_fresh=False), seed=7, epoch=0)


class Filled:
    """Images in two memory orders and small labels; counts its calls."""

    def __init__(self, shapes: dict[int, int] | None = None) -> None:
        self.shapes = shapes or {}
        self.copied: list[int] = []
        self.filled: list[int] = []

    def __len__(self) -> int:
        return 100

    def size(self, index: int) -> int:
        return self.shapes.get(index, 20_000)

    def __getitem__(self, index: int) -> Any:
        self.copied.append(index)
        size = self.size(index)
        noise = np.random.random((size, 2))
        return {"x": (noise + index, np.asfortranarray(noise.T)), "y": [np.full(3, index)]}

    def getitem_into(self, index: int, out: Any) -> Any:
        if out["x"][0].shape != (self.size(index), 2):
            return self[index]
        self.filled.append(index)
        noise = np.random.random((self.size(index), 2))
        np.add(noise, index, out=out["x"][0])
        out["x"][1][:] = noise.T
        out["y"][0][:] = index
        return None


class Bench:
    """A maker with an arena, and the trainer that maps it."""

    def __init__(self) -> None:
        self.mapped = MappedBlocks()
        self.arena = Arena(lambda slab_id, fd: self.mapped.add(INCARNATION, slab_id, fd))
        self._makers: dict[int, BatchMaker] = {}

    def make(self, sequence: Any, index: int, *, in_arena: bool = True) -> EncodedBatch:
        maker = self._makers.setdefault(id(sequence), BatchMaker(items_of(sequence), Trust.REMOTE))
        return maker.make(index, self.arena if in_arena else None)

    def arrives(self, encoded: EncodedBatch) -> Any:
        results = Results(INCARNATION, 0, 0, 1, 0.1, (1,), [encoded])
        frames = encode_results(SESSION, results, blocks=encoded.block is not None)
        _, _, (payload,) = decode_results([bytes(frame) for frame in frames], Trust.REMOTE, self.mapped.open)
        return payload.build()


def equal(one: Any, other: Any) -> bool:
    return all(
        mine.dtype == theirs.dtype and mine.flags.fnc == theirs.flags.fnc and (mine == theirs).all()
        for mine, theirs in zip((*one["x"], *one["y"]), (*other["x"], *other["y"]), strict=True)
    )


def test_batches_after_the_first_are_filled_in_place_and_are_the_same() -> None:
    bench, sequence, plain = Bench(), Filled(), Filled()
    for index in range(5):
        there = bench.arrives(bench.make(sequence, index))
        assert equal(there, bench.arrives(BatchMaker(items_of(plain), Trust.REMOTE).make(index, None)))
    assert (sequence.copied, sequence.filled) == ([0], [1, 2, 3, 4])


def test_the_random_numbers_are_the_same_with_and_without_filling() -> None:
    bench = Bench()
    sequence = Filled()
    bench.make(sequence, 0)
    bench.make(sequence, 1)
    first = random.random()
    bench.make(sequence, 1, in_arena=False)
    assert random.random() == first


def test_a_batch_of_another_shape_is_the_next_template() -> None:
    bench, sequence = Bench(), Filled({2: 9_000, 3: 9_000})
    sizes = [bench.arrives(bench.make(sequence, index))["x"][0].shape[0] for index in range(6)]
    assert sizes == [20_000, 20_000, 9_000, 9_000, 20_000, 20_000]
    assert sequence.filled == [1, 3, 5]


def test_without_shared_memory_no_batch_is_filled() -> None:
    bench, sequence = Bench(), Filled()
    for index in range(3):
        bench.make(sequence, index, in_arena=False)
    assert sequence.filled == []


def test_an_item_that_raises_gives_its_block_back() -> None:
    class Raising(Filled):
        def getitem_into(self, index: int, out: Any) -> Any:
            raise ValueError("bad")

    bench, sequence = Bench(), Raising()
    bench.make(sequence, 0)
    for _ in range(50):
        with pytest.raises(ValueError, match="bad"):
            bench.make(sequence, 1)
    assert bench.arena.allocated_bytes <= 2 * 700_000


class Pair(Filled):
    """Two large arrays of one shape; ``give`` makes the return value from ``out``."""

    def __init__(self, give: Callable[[Any], Any]) -> None:
        super().__init__()
        self._give = give

    def __getitem__(self, index: int) -> Any:
        return [np.full(20_000, index), np.full(20_000, -index)]

    def getitem_into(self, index: int, out: Any) -> Any:
        out[0][:], out[1][:] = self[index]
        return self._give(out)


@pytest.mark.parametrize(
    ("give", "expected"),
    [
        (lambda out: [out[1], out[0]], (-1, 1)),
        (lambda out: [out[1][::-1], out[1]], (-1, -1)),
        (lambda out: [out[0], np.full(20_000, 5)], (1, 5)),
        (lambda out: out.reverse(), (-1, 1)),
        (lambda out: out.__setitem__(0, np.full(20_000, 5)), (5, -1)),
        (lambda out: out.__setitem__(1, np.full(20_000, 5)) or out, (1, 5)),
    ],
)
def test_a_batch_made_of_parts_of_the_buffer_arrives_unchanged(
    give: Callable[[Any], Any], expected: tuple[int, int]
) -> None:
    bench, sequence = Bench(), Pair(give)
    bench.make(sequence, 0)
    for _ in range(3):
        first, second = bench.arrives(bench.make(sequence, 1))
        assert (first == expected[0]).all()
        assert (second == expected[1]).all()


class Named(Filled):
    def __init__(self, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self._change = change

    def __getitem__(self, index: int) -> Any:
        return {"x": np.full((100, 200), index)}

    def getitem_into(self, index: int, out: Any) -> Any:
        out["x"][:] = index
        self._change(out)


def rename(out: Any) -> None:
    out["y"] = out.pop("x")


def nest(out: Any) -> None:
    out["x"] = [out["x"]]


def reshape(out: Any) -> None:
    out["x"].shape = (200, 100)


@pytest.mark.parametrize(
    ("change", "read"),
    [
        (rename, lambda batch: batch["y"]),
        (nest, lambda batch: batch["x"][0]),
        (reshape, lambda batch: batch["x"] if batch["x"].shape == (200, 100) else np.zeros(0)),
    ],
)
def test_a_batch_restructured_around_the_buffer_arrives_in_its_new_form(
    change: Callable[[Any], None], read: Callable[[Any], Any]
) -> None:
    bench, sequence = Bench(), Named(change)
    bench.make(sequence, 0)
    array = read(bench.arrives(bench.make(sequence, 1)))
    assert array.size == 20_000 and (array == 1).all()


def test_batches_with_other_values_than_arrays_are_copied() -> None:
    class Named(Filled):
        def __getitem__(self, index: int) -> Any:
            return super().__getitem__(index), "name"

    bench, sequence = Bench(), Named()
    for index in range(3):
        assert bench.arrives(bench.make(sequence, index))[1] == "name"
    assert sequence.filled == []


def test_small_batches_are_copied() -> None:
    bench, sequence = Bench(), Filled(dict.fromkeys(range(5), 10))
    for index in range(5):
        bench.make(sequence, index)
    assert sequence.filled == []


def test_a_filled_buffer_is_not_reused_while_the_trainer_holds_it() -> None:
    bench, sequence = Bench(), Filled()
    held = [bench.arrives(bench.make(sequence, index)) for index in range(40)]
    assert all((batch["y"][0] == index).all() for index, batch in enumerate(held))
    assert all((np.floor(batch["x"][0]) == index).all() for index, batch in enumerate(held))


class Keeps:
    """Returns the batch that ``make`` makes of an array: a new one each time, or with ``keeps`` always the same."""

    def __init__(self, make: Callable[[np.ndarray], Any], *, keeps: bool) -> None:
        self._make = make
        self.kept = make(np.zeros(60_000)) if keeps else None

    def __getitem__(self, index: int) -> Any:
        return self._make(np.zeros(60_000)) if self.kept is None else self.kept


@pytest.mark.parametrize("make", [lambda array: array, lambda array: (array,), lambda array: {"x": [array]}])
def test_a_batch_that_the_sequence_keeps_is_copied(make: Callable[[np.ndarray], Any]) -> None:
    sequence = Keeps(make, keeps=True)
    maker = BatchMaker(items_of(sequence), Trust.REMOTE)
    for _ in range(3):
        (frame,) = maker.make(0, None).frames
        array = sequence.kept
        while not isinstance(array, np.ndarray):
            array = array["x"] if isinstance(array, dict) else array[0]
        array[:] = 1
        assert not np.frombuffer(frame).any()
        array[:] = 0


@pytest.mark.parametrize("make", [lambda array: array, lambda array: (array,), lambda array: {"x": [array]}])
def test_a_new_batch_is_sent_without_a_copy(make: Callable[[np.ndarray], Any]) -> None:
    addresses: list[int] = []

    def noting(array: np.ndarray) -> Any:
        addresses.append(array.ctypes.data)
        return make(array)

    maker = BatchMaker(items_of(Keeps(noting, keeps=False)), Trust.REMOTE)
    for _ in range(3):
        (frame,) = maker.make(0, None).frames
        assert np.frombuffer(frame).ctypes.data == addresses[-1]
