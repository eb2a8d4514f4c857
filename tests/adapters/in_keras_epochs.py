"""Run by `test_keras` and `test_tf_keras`: epochs of Keras beside those of the enqueuer.

Each test trains with Keras' own dataset first: what that sees is what an enqueuer's view must give. The
last tests are of what Keras 3 alone has.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from enqueuer import SequenceEnqueuer
from enqueuer.adapters.keras import as_dataset
from tests.adapters.sources import COUNT, Powers, Rotating, WithNothing

keras = import_module(os.environ["ENQUEUER_TEST_KERAS"])
LEGACY = not hasattr(keras.utils, "PyDataset")
IN_TENSORFLOW = LEGACY or keras.backend.backend() == "tensorflow"
PROCESSES = pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])


class Own(keras.utils.Sequence):  # type: ignore[misc]
    """Keras' own dataset over a Sequence."""

    def __init__(self, sequence: Any) -> None:
        if not LEGACY:
            super().__init__()
        self.sequence = sequence

    def __len__(self) -> int:
        return len(self.sequence)

    def __getitem__(self, index: int) -> Any:
        return self.sequence[index]


def mean_input(y_true: Any, _y_pred: Any) -> Any:
    return y_true


def which(mean: float, count: int) -> list[int]:
    """The batches, ``count`` of them, whose mean this is."""
    total, found = round(mean * count), []
    for index in range(COUNT):
        found += [index] * (total % 3)
        total //= 3
    return found


@pytest.fixture(scope="module")
def model() -> Any:
    """Returns its inputs; the weight that it has changes nothing."""
    inputs = keras.Input((1,))
    nothing = keras.layers.Rescaling(0.0)(keras.layers.Dense(1)(inputs))
    made = keras.Model(inputs, keras.layers.Add()([inputs, nothing]))
    made.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse", metrics=[mean_input])
    return made


def predicted(model: Any, dataset: Any) -> list[int]:
    return [round(np.log(power) / np.log(3)) for power in model.predict(dataset, verbose=0)[:, 0]]


# ------------------------------------------------------------ steps_per_epoch, validation_steps


@PROCESSES
def test_the_hook_runs_after_each_of_keras_short_epochs(processes: bool, model: Any) -> None:
    """tf-keras begins a pass for each epoch; Keras 3 goes on in its pass, with what the Sequence is after the hook."""
    sequence = Rotating(4)
    with SequenceEnqueuer(sequence, processes) as enq:
        enq.start(1)
        history = model.fit(as_dataset(enq, keras), steps_per_epoch=4, epochs=2, verbose=0, shuffle=False).history
        assert sequence.ends_count == 2 or (IN_TENSORFLOW and not LEGACY)
    seen = [which(mean, 4) for mean in history["mean_input"]]
    if LEGACY:
        assert seen == [[0, 1, 2, 3], [4, 5, 6, 7]]
    elif not IN_TENSORFLOW:  # there Keras reads ahead, before the hook
        assert seen == [[0, 1, 2, 3], [0, 1, 8, 9]]


@pytest.mark.parametrize(("steps", "processes"), [(3, False), (9, True), (None, False)])
def test_validation_steps_see_the_batches_that_they_see_of_keras_own_dataset(
    steps: int | None, processes: bool, model: Any
) -> None:
    def validated_on(dataset: Any, *callbacks: Any) -> list[list[int]]:
        arguments = {"validation_data": dataset, "validation_steps": steps, "callbacks": list(callbacks)}
        history = model.fit(Own(Powers()), epochs=3, verbose=0, shuffle=False, **arguments).history
        return [which(mean, steps or COUNT) for mean in history["val_mean_input"]]

    pids: set[int] = set()

    class Watch(keras.callbacks.Callback):  # type: ignore[misc]
        def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
            pids.update(worker.pid for worker in enq.stats().workers)

    with SequenceEnqueuer(Powers(), processes) as enq:
        enq.start(1)
        assert validated_on(as_dataset(enq, keras), Watch()) == validated_on(Own(Powers()))
    assert len(pids) <= 1, "no process was started anew"


def test_each_validation_of_some_batches_computes_them_again(model: Any) -> None:
    class Drawn(Powers):
        computed: list[int] = []  # noqa: RUF012

        def __getitem__(self, index: int) -> Any:
            self.computed.append(index)
            return super().__getitem__(index)

    sequence = Drawn()
    with SequenceEnqueuer(sequence) as enq:
        enq.start(1)
        dataset = as_dataset(enq, keras)
        model.fit(Own(Powers()), validation_data=dataset, validation_steps=3, epochs=4, verbose=0)
    assert sequence.computed.count(0) >= 4, "random augmentation of validation batches would be the same for ever"


# ------------------------------------------------------------ views


class Predict(keras.callbacks.Callback):  # type: ignore[misc]
    """Predicts at the end of each epoch, with a view that it asks for."""

    def __init__(self, make_view: Callable[[], Any]) -> None:
        super().__init__()
        self.make_view, self.seen = make_view, []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen.append(predicted(self.model, self.make_view()))


@pytest.mark.parametrize(("alone", "processes"), [(True, False), (False, True)], ids=["one view", "a view each"])
def test_a_view_begins_with_the_first_batch_whatever_was_read_by_another(
    alone: bool, processes: bool, model: Any
) -> None:
    with SequenceEnqueuer(Powers(), processes) as enq:
        enq.start(1)
        validation = as_dataset(enq, keras)
        callback = Predict(lambda: validation if alone else as_dataset(enq, keras))
        arguments = {"validation_data": validation, "validation_steps": 3, "callbacks": [callback]}
        model.fit(Own(Powers()), epochs=2, verbose=0, shuffle=False, **arguments)
        assert [*callback.seen, predicted(model, callback.make_view())] == [list(range(COUNT))] * 3


def test_a_look_at_a_view_costs_the_training_no_batch(model: Any) -> None:
    with SequenceEnqueuer(Powers()) as enq:
        enq.start(1)
        for x, _ in as_dataset(enq, keras):
            assert x[0, 0] == 1
            break
        assert predicted(model, as_dataset(enq, keras)) == list(range(COUNT))
        assert next(enq.get())[0][0, 0] == 1
        assert predicted(model, as_dataset(enq, keras)) == list(range(COUNT))


def test_a_view_of_a_training_that_failed_leaves_nothing_to_the_next(model: Any) -> None:
    class Fails(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 4:
                raise KeyError("in a callback")

    with SequenceEnqueuer(Powers()) as enq:
        enq.start(1)
        with pytest.raises(KeyError):
            model.fit(as_dataset(enq, keras), verbose=0, callbacks=[Fails()], shuffle=False)
        assert predicted(model, as_dataset(enq, keras)) == list(range(COUNT))


# ------------------------------------------------------------ batches without some parts


@pytest.mark.parametrize(("kind", "processes"), [("no targets", False), ("no weights", True), ("only inputs", False)])
def test_a_part_that_is_none_means_what_it_means_to_keras(kind: str, processes: bool) -> None:
    class Reconstruction(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            self.add_loss(inputs[:1, 0] ** 2)
            return inputs

    def trained_on(dataset: Any) -> list[float]:
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Dense(1)] + ([] if kind == "no weights" else [Reconstruction()])
        made = keras.Sequential([keras.Input((3,)), *layers])
        made.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse" if kind == "no weights" else None)
        return [round(loss, 5) for loss in made.fit(dataset, epochs=2, verbose=0, shuffle=False).history["loss"]]

    try:
        expected = trained_on(Own(WithNothing(kind)))
    except Exception as error:
        assert IN_TENSORFLOW and not LEGACY, error
        return  # Keras 3 on TensorFlow refuses a None in the middle of its own dataset as well
    with SequenceEnqueuer(WithNothing(kind), processes) as enq:
        enq.start(1)
        assert trained_on(as_dataset(enq, keras)) == expected


# ------------------------------------------------------------ datasets of Keras 3


if not LEGACY:

    def test_a_dataset_that_says_num_batches_and_has_no_len_is_a_sequence(model: Any) -> None:
        class Counted(keras.utils.PyDataset):  # type: ignore[misc]
            num_batches = 3

            def __getitem__(self, index: int) -> Any:
                return Powers()[index]

        with SequenceEnqueuer(Counted()) as enq:
            enq.start(1)
            assert len(enq) == 3 and predicted(model, as_dataset(enq, keras)) == [0, 1, 2]
        with pytest.raises(TypeError, match="lacks __len__"):
            SequenceEnqueuer(keras.utils.PyDataset())

    def test_a_dataset_without_an_end_goes_on_over_keras_epochs(model: Any) -> None:
        class Endless(keras.utils.PyDataset):  # type: ignore[misc]
            num_batches = None

            def __getitem__(self, index: int) -> Any:
                return Powers()[index % COUNT]

        def trained_on(dataset: Any) -> list[list[int]]:
            history = model.fit(dataset, steps_per_epoch=3, epochs=4, verbose=0, shuffle=False).history
            return [which(mean, 3) for mean in history["mean_input"]]

        expected = trained_on(Endless())
        # As in Keras, shuffling has no meaning there.
        with SequenceEnqueuer(Endless(), shuffle=True) as enq:
            enq.start(2)
            view = as_dataset(enq, keras)
            assert view.num_batches is None
            assert trained_on(view) == expected

    def test_datasets_that_keras_divides_by_index_are_refused_with_the_cure() -> None:
        """The adapter reads the distribution when it is made: its loops may run outside of it, and divide the same."""
        from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

        layout = keras.distribution.DataParallel(devices=["cpu:0"] * 2)
        # What two processes have; here is one.
        layout._num_processes, layout._process_id = 2, 1
        with SequenceEnqueuer(Powers(), shard=(1, 2)) as enq:
            enq.start(1)
            dataset = as_dataset(enq)
            with layout.scope():
                for look in (len, PyDatasetAdapter):
                    with pytest.raises(RuntimeError, match=r"auto_shard_dataset = False.*shard=\(1, 2\)"):
                        look(dataset)
                layout.auto_shard_dataset = False
                adapter = PyDatasetAdapter(dataset)
            batches = adapter.get_numpy_iterator()
            assert [round(np.log(x[0, 0]) / np.log(3)) for x, _ in batches] == [1, 3, 5, 7, 9]
