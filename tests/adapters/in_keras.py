"""Run by `test_keras` and `test_tf_keras`, once in each Keras: ENQUEUER_TEST_KERAS names the module."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer import SequenceEnqueuer
from enqueuer.adapters.keras import as_dataset
from tests.adapters.sources import Augmented, Failing, Images, Linear
from tests.support.frameworks import left_behind
from tests.support.leaks import resources
from tests.support.waiting import wait_until

keras = import_module(os.environ["ENQUEUER_TEST_KERAS"])
LEGACY = not hasattr(keras.utils, "PyDataset")
IN_TENSORFLOW = LEGACY or keras.backend.backend() == "tensorflow"
Batch = tuple[np.ndarray, ...]


class Own(keras.utils.Sequence):  # type: ignore[misc]
    """Keras' own loader over batches that are there."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        if not LEGACY:
            super().__init__()
        self.batches = list(batches)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.batches[index]


class Until(keras.callbacks.Callback):  # type: ignore[misc]
    """Ends the training in its n-th batch: by ``error``, or as EarlyStopping does."""

    def __init__(self, batches_count: int, error: BaseException | None = None) -> None:
        super().__init__()
        self.left_count, self.error = batches_count, error

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left_count -= 1
        if self.left_count == 0:
            if self.error is not None:
                raise self.error
            self.model.stop_training = True


class AtEpochEnd(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self, action: Any) -> None:
        super().__init__()
        self.action = action

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.action(epoch)


@pytest.fixture(scope="module")
def compiled() -> tuple[Any, list[np.ndarray]]:
    """One model for all tests, since compiling it takes long, and its first weights."""
    made = make_model(keras.layers.Input((4,)))
    return made, made.get_weights()


@pytest.fixture
def model(compiled: tuple[Any, list[np.ndarray]]) -> Any:
    made, weights = compiled
    made.set_weights(weights)
    made.stop_training = False
    return made


def make_model(*first: Any) -> Any:
    keras.utils.set_random_seed(3)
    made = keras.Sequential([*first, keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
    # Without momentum: a model that is given its first weights again is as good as new.
    made.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    return made


def batches_of(sequence: Any) -> list[Batch]:
    return [sequence[index] for index in range(len(sequence))]


Result = tuple[list[float], list[np.ndarray]]


def result(model: Any, history: Any) -> Result:
    """The loss curve, and the weights after the training."""
    return history.history["loss"], model.get_weights()


def result_of_own_loader(model: Any, *epochs: list[Batch], weights: list[np.ndarray]) -> Result:
    """The training of a model with Keras' own loader over the batches of each epoch, from these first weights."""
    model.set_weights(weights)
    curve: list[float] = []
    for batches in epochs:
        curve += model.fit(Own(batches), shuffle=False, verbose=0).history["loss"]
    return curve, model.get_weights()


def assert_same(mine: Result, theirs: Result) -> None:
    """Bit for bit: the same batches in the same order."""
    assert mine[0] == theirs[0]
    for a, b in zip(mine[1], theirs[1], strict=True):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------ fit, evaluate, predict


def test_fit_of_a_new_model_has_the_loss_curve_and_the_weights_of_keras_own_loader() -> None:
    sequence, held_out = Linear(), Linear(3)
    train, validation = Own(batches_of(sequence)), Own(batches_of(held_out))
    theirs = make_model()
    expected = theirs.fit(train, shuffle=False, epochs=3, validation_data=validation, verbose=0)
    mine = make_model()
    with SequenceEnqueuer(sequence) as enq, SequenceEnqueuer(held_out) as val:
        enq.start(2)
        val.start(1)
        history = mine.fit(as_dataset(enq, keras), epochs=3, validation_data=as_dataset(val, keras), verbose=0)
        # The enqueuer calls the hook itself, and may be about to.
        wait_until(lambda: (sequence.ends_count, held_out.ends_count) == (3, 3))
    assert history.history == expected.history
    assert_same(result(mine, history), result(theirs, expected))


def test_the_order_is_the_enqueuers_whatever_keras_shuffles(model: Any) -> None:
    weights = model.get_weights()
    with SequenceEnqueuer(Augmented(), True, shuffle=True, seed=5) as enq:
        enq.start(2)
        batches = [list(enq.epoch()) for _ in range(3)]
    with SequenceEnqueuer(Augmented(), True, shuffle=True, seed=5) as enq:
        enq.start(1)
        mine = result(model, model.fit(as_dataset(enq, keras), shuffle=True, epochs=3, verbose=0))
    assert_same(mine, result_of_own_loader(model, *batches, weights=weights))


def test_predict_and_evaluate_see_each_batch_once_and_in_order(model: Any) -> None:
    sequence = Linear(7)
    with SequenceEnqueuer(sequence) as enq:
        enq.start(3)
        dataset = as_dataset(enq, keras)
        expected = model.predict(Own(batches_of(sequence)), verbose=0)
        for _ in range(2):
            np.testing.assert_array_equal(model.predict(dataset, verbose=0), expected)
        loss = model.evaluate(dataset, verbose=0)
        assert loss == model.evaluate(Own(batches_of(sequence)), verbose=0)
        wait_until(lambda: sequence.ends_count == 3)


def test_class_weights_work_as_with_keras_own_loader(model: Any) -> None:
    first, weights = model.get_weights(), {0: 1.0, 1: 5.0}
    labelled = Own([(x, (y > 2).astype(np.int64)) for x, y in batches_of(Linear(6))])
    with SequenceEnqueuer(labelled) as enq:
        enq.start(2)
        mine = result(model, model.fit(as_dataset(enq, keras), class_weight=weights, verbose=0))
    model.set_weights(first)
    assert_same(mine, result(model, model.fit(labelled, shuffle=False, class_weight=weights, verbose=0)))


def test_a_view_is_a_dataset_of_this_keras_and_iterates_over_one_epoch() -> None:
    with SequenceEnqueuer(Linear(3)) as enq:
        enq.start(2)
        dataset = as_dataset(enq, keras)
        assert isinstance(dataset, keras.utils.Sequence)
        assert len(dataset) == 3
        for _ in range(2):
            assert [float(x[0, 0]) for x, _ in dataset] == pytest.approx([0, 1 / 3, 2 / 3])
        assert [float(dataset[index][0][0, 0]) for index in range(3)] == pytest.approx([0, 1 / 3, 2 / 3])


@pytest.mark.parametrize("length", [1, 2, 3])
def test_fit_on_an_epoch_as_short_as_a_peek_sees_each_batch_once(length: int, model: Any) -> None:
    weights = model.get_weights()
    sequence = Linear(length)
    with SequenceEnqueuer(sequence) as enq:
        enq.start(2)
        mine = result(model, model.fit(as_dataset(enq, keras), epochs=2, verbose=0))
        wait_until(lambda: sequence.ends_count == 2)
    assert_same(mine, result_of_own_loader(model, *[batches_of(sequence)] * 2, weights=weights))


def test_fit_on_the_generator_with_steps_per_epoch_sees_each_batch_once(model: Any) -> None:
    weights = model.get_weights()
    with SequenceEnqueuer(Linear()) as enq:
        enq.start(2)
        history = model.fit(enq.get(), steps_per_epoch=len(enq), epochs=2, shuffle=False, verbose=0)
    mine = result(model, history)
    assert_same(mine, result_of_own_loader(model, *[batches_of(Linear())] * 2, weights=weights))


# ------------------------------------------------------------ trainings that end early


@pytest.mark.parametrize(
    ("batches_count", "error"),
    [(15, None), (3, ValueError("enough")), (33, KeyboardInterrupt())],
    ids=["stopped", "error", "ctrl-c"],
)
def test_after_a_training_that_ended_within_an_epoch_the_next_begins_a_pass(
    batches_count: int, error: BaseException | None, model: Any
) -> None:
    weights = model.get_weights()
    with SequenceEnqueuer(Linear()) as enq:
        enq.start(2)
        dataset = as_dataset(enq, keras)
        until = Until(batches_count, error)
        with contextlib.nullcontext() if error is None else pytest.raises(type(error)):
            model.fit(dataset, epochs=3, callbacks=[until], verbose=0)
        assert until.left_count == 0
        # The framework decides how far the first training came; the test is about the second one's batches.
        model.set_weights(weights)
        mine = result(model, model.fit(dataset, epochs=2, verbose=0))
    assert_same(mine, result_of_own_loader(model, *[batches_of(Linear())] * 2, weights=weights))


def test_early_stopping_at_the_end_of_an_epoch_leaves_the_enqueuer_at_the_next(model: Any) -> None:
    sequence = Linear()
    with SequenceEnqueuer(sequence) as enq:
        enq.start(2)
        stop = keras.callbacks.EarlyStopping(monitor="loss", min_delta=1e9, patience=1)
        history = model.fit(as_dataset(enq, keras), epochs=9, callbacks=[stop], verbose=0).history
        wait_until(lambda: sequence.ends_count == len(history["loss"]) == 2)
        assert enq.is_running()
        assert float(next(enq.get())[0][0, 0]) == 0


def test_steps_per_epoch_works_as_with_keras_own_datasets(model: Any) -> None:
    weights = model.get_weights()
    with SequenceEnqueuer(Linear()) as enq:
        enq.start(2)
        mine = result(model, model.fit(as_dataset(enq, keras), epochs=4, steps_per_epoch=10, verbose=0))
    model.set_weights(weights)
    own = Own(batches_of(Linear()))
    assert_same(mine, result(model, model.fit(own, shuffle=False, epochs=4, steps_per_epoch=10, verbose=0)))


def test_a_training_goes_on_from_the_state_at_an_epochs_end(model: Any) -> None:
    states: list[str] = []
    with SequenceEnqueuer(Augmented(), shuffle=True, seed=3) as enq:
        enq.start(2)
        dataset = as_dataset(enq, keras)
        save = AtEpochEnd(lambda epoch: states.append(json.dumps(enq.state_dict())))
        model.fit(dataset, epochs=2, callbacks=[save], verbose=0)
        weights = model.get_weights()
        expected = result(model, model.fit(dataset, epochs=2, verbose=0))
    model.set_weights(weights)
    with SequenceEnqueuer(Augmented(), shuffle=True, seed=3) as enq:
        enq.load_state_dict(json.loads(states[1]))
        enq.start(1)
        assert_same(result(model, model.fit(as_dataset(enq, keras), epochs=2, verbose=0)), expected)


# ------------------------------------------------------------ errors


def test_an_error_of_the_sequence_comes_out_of_fit() -> None:
    model = make_model()  # JAX leaves a model without weights behind
    with SequenceEnqueuer(Failing(), True) as enq:
        enq.start(2)
        # TensorFlow makes an error of its own of it, with the original's text.
        with pytest.raises(Exception if IN_TENSORFLOW else ZeroDivisionError, match="batch 13"):
            model.fit(as_dataset(enq, keras), verbose=0)
        assert not enq.is_running()


def test_fit_on_an_enqueuer_that_was_not_started_is_an_error() -> None:
    with pytest.raises(Exception, match="call its start"):
        make_model().fit(as_dataset(SequenceEnqueuer(Linear()), keras), verbose=0)


def test_a_second_layer_of_workers_is_refused() -> None:
    with SequenceEnqueuer(Linear()) as enq:
        enq.start(2)
        dataset = as_dataset(enq, keras)
        options = {"workers": 3} if LEGACY else {}
        if not LEGACY:
            dataset.workers = 3
        with pytest.raises(Exception, match="leave out workers="):
            make_model().fit(dataset, verbose=0, **options)


# ------------------------------------------------------------ changes, and what stays


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_callbacks_change_is_in_force_from_the_next_epoch_on(processes: bool) -> None:
    images = Images()
    sizes = [8, 16, 12]
    seen: list[int] = []

    class Sizing(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            seen.append(int(inputs.shape[1]))
            return inputs

    model = keras.Sequential([Sizing(), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse", run_eagerly=True)

    def resize(epoch: int) -> None:
        images.image_size = [*sizes, 0][epoch + 1]

    with SequenceEnqueuer(images, processes) as enq:
        enq.start(2)
        # Keras 3 holds TensorFlow to one shape for the length of a fit.
        for first in (0, 1, 2) if IN_TENSORFLOW and not LEGACY else (0,):
            epochs = first + 1 if IN_TENSORFLOW and not LEGACY else 3
            callback = AtEpochEnd(resize)
            model.fit(as_dataset(enq, keras), initial_epoch=first, epochs=epochs, callbacks=[callback], verbose=0)
    # Keras may also call the layer while it builds the model, at the first size.
    assert seen[-18:] == [size for size in sizes for _ in range(6)]
    assert set(seen[:-18]) <= {8}


def test_nothing_is_left_after_fit(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = None
    for _ in range(3):
        with SequenceEnqueuer(Linear(), True) as enq, SequenceEnqueuer(Linear(3)) as val:
            enq.start(2)
            val.start(2)
            model.fit(as_dataset(enq, keras), epochs=2, validation_data=as_dataset(val, keras), verbose=0)
        # The framework starts threads of its own, once.
        if before is None:
            before = resources()
    assert left_behind(before) == []
