"""TensorFlow: an enqueuer as a ``tf.data.Dataset``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from enqueuer.adapters._frameworks import import_framework
from enqueuer.adapters._loops import EpochLoops
from enqueuer.sequence_enqueuer import SequenceEnqueuer

if TYPE_CHECKING:
    import tensorflow as tf


def as_dataset(enqueuer: SequenceEnqueuer, element_spec: Any = None, *, endless: bool = False) -> tf.data.Dataset:
    """The enqueuer's batches as a ``tf.data.Dataset``, each element a whole batch.

    Iterating over it is one pass of ``len(enqueuer)`` batches, so ``fit(dataset, epochs=3)`` trains three epochs; with
    ``endless=True`` it goes on over epochs for ever, and ``fit`` needs ``steps_per_epoch``. A loop that was left in the
    middle is followed by a new pass. The enqueuer must be running while a loop iterates. The dataset keeps the number
    of batches that the enqueuer has now; if it changes from epoch to epoch, make a new dataset for each.

    ``element_spec`` is a structure of ``tf.TensorSpec`` as the batches have it (lists count as tuples). Without it this
    call waits for the first batch and derives the specification from it: the first dimension of each array may vary
    from batch to batch, the others may not. TensorFlow raises an error for a batch that does not fit.
    """
    tf = import_framework("tensorflow")
    loops = EpochLoops(enqueuer, counted=True)
    if element_spec is None:
        element_spec = tf.nest.map_structure(_spec_of, _as_tuples(loops.next_batch(None)))

    def batches() -> Iterator[Any]:
        loop = object()
        for _ in repeat(None) if endless else repeat(None, len(enqueuer)):
            yield _as_tuples(loops.next_batch(loop))

    dataset = tf.data.Dataset.from_generator(batches, output_signature=_as_tuples(element_spec))
    cardinality = tf.data.INFINITE_CARDINALITY if endless else len(enqueuer)
    return dataset.apply(tf.data.experimental.assert_cardinality(cardinality))


def _spec_of(value: Any) -> Any:
    tf = import_framework("tensorflow")
    array = np.asarray(value)
    dtype = tf.string if array.dtype.kind in "USOT" else tf.as_dtype(array.dtype)
    return tf.TensorSpec((None, *array.shape[1:]) if array.ndim else (), dtype)


def _as_tuples(value: Any) -> Any:
    """The batch with tuples for its lists: tf.data takes a list for one tensor, and a batch's lists hold several."""
    if isinstance(value, dict):
        return {key: _as_tuples(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return tuple(_as_tuples(part) for part in value)
    return value
