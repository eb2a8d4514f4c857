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
    ``endless=True`` it goes on over epochs for ever, and ``fit`` needs ``steps_per_epoch``. After a
    loop left in the middle, a new pass begins. The enqueuer must be running while a loop iterates. The dataset keeps
    the enqueuer's present number of batches; if it changes from epoch to epoch, make a new dataset for each.

    ``element_spec`` is a structure of ``tf.TensorSpec`` as the batches have it (lists count as tuples). Without it this
    call waits for the first batch and derives the specification from it: the first dimension of each array may vary
    from batch to batch, the others may not. TensorFlow raises an error for any other batch. A part that is None in
    the specification, or in the first batch, is None in every element.
    """
    tf = import_framework("tensorflow")
    loops = EpochLoops(enqueuer, counted=True)
    if element_spec is None:
        element_spec = tf.nest.map_structure(_spec_of, _as_tuples(loops.next_batch(None)))
    structure = _as_tuples(element_spec)
    # Generators cannot yield None.
    has_none = any(part is None for part in tf.nest.flatten(structure))

    def batches() -> Iterator[Any]:
        loop = object()
        for _ in repeat(None) if endless else repeat(None, len(enqueuer)):
            batch = _as_tuples(loops.next_batch(loop))
            yield _without_none(batch, structure) if has_none else batch

    if has_none:
        specs = tuple(part for part in tf.nest.flatten(structure) if part is not None)
        dataset = tf.data.Dataset.from_generator(batches, output_signature=specs)
        dataset = dataset.map(lambda *parts: _with_none(parts, structure))
    else:
        dataset = tf.data.Dataset.from_generator(batches, output_signature=structure)
    cardinality = tf.data.INFINITE_CARDINALITY if endless else len(enqueuer)
    return dataset.apply(tf.data.experimental.assert_cardinality(cardinality))


def _without_none(batch: Any, structure: Any) -> Any:
    """The parts of the batch that are not None in the structure. Raises ValueError for one that is None elsewhere."""
    tf = import_framework("tensorflow")
    tf.nest.assert_same_structure(batch, structure)
    parts = []
    for number, (part, spec) in enumerate(zip(tf.nest.flatten(batch), tf.nest.flatten(structure), strict=True)):
        if (part is None) != (spec is None):
            raise ValueError(
                f"part [{number}] of a batch is {'None' if part is None else 'no None'}, and it is "
                f"{'no None' if part is None else 'None'} in the specification: let it be None in all batches or in "
                "none"
            )
        if part is not None:
            parts.append(part)
    return tuple(parts)


def _with_none(parts: tuple[Any, ...], structure: Any) -> Any:
    tf = import_framework("tensorflow")
    rest = iter(parts)
    flat = [None if spec is None else next(rest) for spec in tf.nest.flatten(structure)]
    return tf.nest.pack_sequence_as(structure, flat)


def _spec_of(value: Any) -> Any:
    if value is None:
        return None
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
