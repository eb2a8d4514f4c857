"""TensorFlow: an enqueuer as a ``tf.data.Dataset``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np

from enqueuer.adapters._passes import Passes
from enqueuer.sequence_enqueuer import SequenceEnqueuer


def as_dataset(enqueuer: SequenceEnqueuer, element_spec: Any = None, *, endless: bool = False) -> Any:
    """The enqueuer's batches as a ``tf.data.Dataset``, each element a whole batch.

    Iterating over it is one pass of ``len(enqueuer)`` batches, so ``fit(dataset, epochs=3)`` trains three epochs; with
    ``endless=True`` it goes on over epochs for ever, and ``fit`` needs ``steps_per_epoch``. A loop that was left in the
    middle is followed by a new pass. The enqueuer must be running while anybody iterates. The number of batches is that
    of now; where it changes from epoch to epoch, make a new dataset for each.

    ``element_spec`` is a structure of ``tf.TensorSpec`` as the batches have it (lists count as tuples). Without it the
    first batch is looked at, and waited for, now: the first dimension of each array may vary from batch to batch, the
    others may not. A batch that does not fit is an error of TensorFlow's.
    """
    import tensorflow as tf

    passes = Passes(enqueuer)
    if element_spec is None:
        element_spec = tf.nest.map_structure(_spec_of, _as_tuples(passes.next(None)))

    def batches() -> Iterator[Any]:
        loop = object()
        for _ in repeat(None) if endless else repeat(None, len(enqueuer)):
            yield _as_tuples(passes.next(loop))

    dataset = tf.data.Dataset.from_generator(batches, output_signature=_as_tuples(element_spec))
    cardinality = tf.data.INFINITE_CARDINALITY if endless else len(enqueuer)
    return dataset.apply(tf.data.experimental.assert_cardinality(cardinality))


def _spec_of(value: Any) -> Any:
    import tensorflow as tf

    array = np.asarray(value)
    dtype = tf.string if array.dtype.kind in "USOT" else tf.as_dtype(array.dtype)
    return tf.TensorSpec((None, *array.shape[1:]) if array.ndim else (), dtype)


def _as_tuples(value: Any) -> Any:
    """tf.data takes a list for one tensor, where Keras' batches have several."""
    if isinstance(value, dict):
        return {key: _as_tuples(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return tuple(_as_tuples(part) for part in value)
    return value
