"""Run by `test_jax`: the enqueuer's batches on a device. Two CPU devices are made for it."""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from enqueuer import ConfigurationError, SequenceEnqueuer
from enqueuer.adapters.jax import device_iterator
from tests.adapters.plain_sources import LARGE, FailsAt, Large, Nested, OneBuffer, Regression
from tests.adapters.recycled import Blocks, hold_and_drop
from tests.adapters.sources import Given
from tests.support.leaks import resources
from tests.support.waiting import wait_until


def enqueuer(sequence: Any, processes: bool = False, **options: Any) -> SequenceEnqueuer:
    return SequenceEnqueuer(sequence, processes, **{"seed": 1, **options})


def equal(one: Any, other: Any) -> bool:
    return bool(jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), one, other)))


def values(batches: Any) -> list[int]:
    return [int(batch[0]) for batch in batches]


# ---------------------------------------------------------------- values and devices


def test_numbers_are_on_the_device_and_other_values_stay_as_they_were() -> None:
    with enqueuer(Nested()) as enq:
        batch = next(iter(device_iterator(enq, workers=1)))
    assert isinstance(batch["pair"][0], jax.Array) and type(batch["pair"]) is tuple
    assert batch["pair"][1][1].tolist() == ["a", "b"]
    assert (batch["none"], batch["text"], batch["number"]) == (None, "hello", 3.5)
    assert isinstance(batch["scalar"], jax.Array) and isinstance(batch["flags"], jax.Array)
    assert isinstance(batch["when"], np.ndarray)
    assert batch["big endian"].tolist() == [0, 1, 2]
    assert batch["backwards"].tolist() == [3, 2, 1, 0]
    assert batch["empty"].shape == (0, 3)


def test_arrays_of_jax_come_from_processes_as_those_of_numpy_with_their_dtype() -> None:
    halves, ones = jnp.arange(3, dtype=jnp.bfloat16), jnp.ones((2, 2))
    with enqueuer(Given((halves, ones), (halves, ones)), True) as enq:
        enq.start(1)
        received = next(enq.epoch())
        assert [type(part) for part in received] == [np.ndarray] * 2 and equal(received, (halves, ones))
        assert received[0].dtype == jnp.bfloat16
        assert next(iter(device_iterator(enq)))[0].dtype == jnp.bfloat16


def test_batches_go_to_the_given_device_or_sharding() -> None:
    first, second = jax.devices()
    with enqueuer(Regression(2)) as enq:
        for x, y in device_iterator(enq, device=second, workers=1):
            assert x.devices() == y.devices() == {second}
        sharding = NamedSharding(Mesh(np.array([first, second]), "batch"), PartitionSpec("batch"))
        for x, _ in device_iterator(enq, sharding=sharding):
            assert x.sharding == sharding
            assert [shard.data.shape for shard in x.addressable_shards] == [(8, 8), (8, 8)]
        with pytest.raises(ConfigurationError, match="not both"):
            device_iterator(enq, device=first, sharding=sharding)
        with pytest.raises(ConfigurationError, match="size"):
            device_iterator(enq, size=0)
        with pytest.raises(TypeError, match="max_queue"):
            device_iterator(enq, workers=2, max_queue=8)  # type: ignore[call-arg]


# ---------------------------------------------------------------- memory


def test_arrays_keep_memory_that_would_be_recycled() -> None:
    """On the CPU JAX does not copy aligned arrays: a block must not be used again before its array is gone."""
    blocks = Blocks()
    with enqueuer(Large(), processes=True) as enq:
        enq.start(1)  # without workers this process would compute the batches
        stream = device_iterator(enq)
        held: dict[int, jax.Array] = {}
        aliased = 0
        for number in range(2000):
            array = blocks.array((LARGE,), np.float32, number)
            address = array.ctypes.data
            held[number] = stream.put({"x": array})["x"]
            aliased += held[number].unsafe_buffer_pointer() == address
            del array
            if len(held) > 100:
                for key in list(held)[::2]:
                    assert jnp.array_equal(held.pop(key), jnp.full(LARGE, float(key)))
    assert aliased == 2000, "this test is about memory that is shared"
    assert blocks.recycled_count > 1500
    for key, mine in held.items():
        np.testing.assert_array_equal(mine, np.full(LARGE, key, np.float32))


def test_thousands_of_batches_held_and_dropped_keep_their_contents() -> None:
    with enqueuer(Large(1500), processes=True) as enq:
        held = hold_and_drop(device_iterator(enq, workers=2, max_queue_size=64), 1500)
    for key, array in held.items():
        np.testing.assert_array_equal(array, np.full(LARGE, key % 1500, np.float32))


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_batches_computed_in_this_process_are_copied_since_the_sequence_may_change_them(processes: bool) -> None:
    """Without workers the loop computes batches itself, also where there would be processes."""
    with enqueuer(OneBuffer(), processes) as enq:
        # One at a time: a Sequence must not overwrite a batch before its delivery.
        batches = list(device_iterator(enq, size=1, workers=0))
    assert [set(np.asarray(batch).tolist()) for batch in batches] == [{index} for index in range(6)]


# ---------------------------------------------------------------- epochs and places


@pytest.mark.parametrize("size", [1, 2, 5, 20])
def test_each_loop_is_an_epoch(size: int) -> None:
    with enqueuer(FailsAt(5, bad=-1)) as enq:
        loader = device_iterator(enq, size, workers=2)
        assert len(loader) == 5
        epochs = []
        while loader.epoch < 3:
            epochs.append(values(loader))
        assert epochs == [[0, 1, 2, 3, 4]] * 3


@pytest.mark.parametrize("size", [1, 2, 20])
def test_a_loop_that_was_broken_off_is_followed_by_a_new_epoch(size: int) -> None:
    with enqueuer(FailsAt(5, bad=-1)) as enq:
        loader = device_iterator(enq, size, workers=2)
        assert [int(batch[0]) for batch, _ in zip(loader, range(2), strict=False)] == [0, 1]
        assert values(loader) == [0, 1, 2, 3, 4]


def test_an_error_comes_after_the_batches_before_it() -> None:
    with enqueuer(FailsAt()) as enq:
        loader = device_iterator(enq, size=3, workers=2)
        for _ in range(2):
            seen = []
            with pytest.raises(ValueError, match="no batch 4"):
                for batch in loader:
                    seen.append(int(batch[0]))
            assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 7])
@pytest.mark.parametrize("size", [1, 3])
def test_the_state_counts_what_was_handed_out(count: int, size: int) -> None:
    """6 batches an epoch: in the middle, and on both sides of a boundary."""

    def stream(loader: Any) -> Iterator[Any]:
        while loader.epoch < 3:
            yield from loader

    with enqueuer(Regression(6), shuffle=True) as enq:
        expected = list(stream(device_iterator(enq, size, workers=2)))
    assert len(expected) == 18
    with enqueuer(Regression(6), shuffle=True) as enq:
        loader = device_iterator(enq, size, workers=2)
        before = [batch for _, batch in zip(range(count), stream(loader), strict=False)]
        state = json.loads(json.dumps(loader.state_dict()))
    with enqueuer(Regression(6), shuffle=True) as enq:
        loader = device_iterator(enq, size, workers=1)
        loader.load_state_dict(state)
        after = list(stream(loader))
    assert equal(before + after, expected)


# ---------------------------------------------------------------- training


@jax.jit
def step(weights: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    loss, gradient = jax.value_and_grad(lambda w: jnp.mean((x @ w - y) ** 2))(weights)
    return weights - 0.01 * gradient, loss


def losses(batches: Any) -> list[float]:
    weights, curve = jnp.zeros(8), []
    for x, y in batches:
        weights, loss = step(weights, x, y)
        curve.append(float(loss))
    return curve


def test_training_has_the_very_losses_of_a_plain_loop_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with enqueuer(Regression()) as enq:
        enq.start(0)
        plain = [batch for _ in range(3) for batch in enq.epoch()]
    expected = losses(plain)
    assert expected[-1] < expected[0] / 2
    with tempfile.TemporaryDirectory(prefix="leaks-") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        before = resources()
        with enqueuer(Regression(), processes=True) as enq:
            loader = device_iterator(enq, workers=2)
            assert losses(batch for _ in range(3) for batch in loader) == expected
        del enq, loader
        gc.collect()
        wait_until(lambda: not resources().beyond(before), what="nothing left")


# ---------------------------------------------------------------- batches that do not fit, several loaders


class Uneven:
    """Batches for two devices, the last of which does not divide by two."""

    sizes = (4, 4, 3)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full((self.sizes[index], 2), index, np.float32)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_error_of_a_batch_that_does_not_divide_comes_in_its_place_and_names_it(size: int) -> None:
    sharding = NamedSharding(Mesh(np.array(jax.devices()), "batch"), PartitionSpec("batch"))
    with enqueuer(Uneven()) as enq:
        loader = device_iterator(enq, size=size, sharding=sharding, workers=1)
        for epoch in range(2):
            seen = []
            with pytest.raises(ValueError, match=f"batch number 3 of epoch {epoch} .* 3"):
                for x in loader:
                    seen.append(float(x[0, 0]))
                    state = loader.state_dict()
            assert seen == [0, 1]
        loader.load_state_dict(state)
        with pytest.raises(ValueError, match="batch number 3 of epoch 1"):
            next(iter(loader))


def test_a_look_through_another_loader_costs_no_batch() -> None:
    with enqueuer(Uneven()) as enq:
        enq.start(1)
        next(iter(device_iterator(enq)))
        assert [float(x[0, 0]) for x in device_iterator(enq)] == [0, 1, 2]


def test_a_state_of_the_last_batch_within_the_loop_resumes_with_nothing_of_that_epoch() -> None:
    with enqueuer(Uneven()) as enq:
        loader = device_iterator(enq, workers=1)
        for _ in loader:
            inside = loader.state_dict()
        after = loader.state_dict()
    for state, counts in ((inside, [0, 3]), (after, [3, 3])):
        with enqueuer(Uneven()) as enq:
            loader = device_iterator(enq, workers=1)
            loader.load_state_dict(json.loads(json.dumps(state)))
            assert [len(list(loader)) for _ in range(2)] == counts
