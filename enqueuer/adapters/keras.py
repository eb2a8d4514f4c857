"""Keras 3 (any backend), tf-keras 2 and TensorFlow's own Keras: an enqueuer as what their ``fit`` takes.

with SequenceEnqueuer(sequence, use_multiprocessing=True, shuffle=True) as enq:
    enq.start(workers=8)
    model.fit(as_dataset(enq), epochs=3)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from inspect import CO_GENERATOR
from types import FrameType, ModuleType
from typing import Any

from enqueuer.adapters._passes import Passes
from enqueuer.sequence_enqueuer import SequenceEnqueuer


def as_dataset(enqueuer: SequenceEnqueuer, keras: ModuleType | None = None) -> Any:
    """A ``keras.utils.PyDataset`` for ``fit``, ``evaluate``, ``predict`` and ``validation_data=``.

    ``keras`` is the module that the model comes from, where that is not ``import keras``: with ``tf_keras`` (or
    ``tf.keras`` before 2.16, or with ``TF_USE_LEGACY_KERAS``) it is a ``keras.utils.Sequence`` instead.

    It is a view: ``start()`` the enqueuer before, ``stop()`` it after. Keras' epochs are the enqueuer's; batches come
    in the enqueuer's order, each once, whatever Keras peeks at or prefetches. Keras' own shuffling (``fit(shuffle=)``)
    changes nothing: the order is ``SequenceEnqueuer(shuffle=)``'s. ``on_epoch_end`` of the Sequence is called once an
    epoch, by the enqueuer; what a callback changes in the Sequence is in force from the next epoch on.

    A training that ended in the middle of an epoch (an exception, Ctrl-C, ``stop_training`` in a batch) leaves the
    enqueuer running, and the next ``fit`` begins a new pass. Under ``fit(steps_per_epoch=n)`` Keras 3 goes on in the
    pass where the last of its epochs ended, and tf-keras begins a new one, each as with a dataset of its own.

    Leave Keras' own ``workers`` and ``use_multiprocessing`` alone: a second layer of workers is refused.
    """
    return _view_class(import_module("keras") if keras is None else keras)(enqueuer)


@cache
def _view_class(keras: ModuleType) -> Any:
    # Keras 3 has both names for one class.
    has_constructor = hasattr(keras.utils, "PyDataset")
    base: Any = keras.utils.PyDataset if has_constructor else keras.utils.Sequence

    class EnqueuerDataset(base):
        """The batches of an enqueuer, as Keras asks for them."""

        def __init__(self, enqueuer: SequenceEnqueuer) -> None:
            if has_constructor:
                super().__init__(workers=1, use_multiprocessing=False, max_queue_size=1)
            self._passes = Passes(enqueuer)

        def __len__(self) -> int:
            return len(self._passes.enqueuer)

        def __getitem__(self, index: int) -> Any:
            """The next batch of the pass. ``index`` says how far Keras is, in an order that may be shuffled."""
            return self._passes.next(_loop_of(sys._getframe(1)))

        def __iter__(self) -> Iterator[Any]:
            loop = object()
            for _ in range(len(self)):
                yield self._passes.next(loop)

        def on_epoch_end(self) -> None:
            """Not the end of the Sequence's epoch, which the enqueuer sees by itself."""
            # Keras 3 says this also between its peek and its first epoch; tf-keras only when an epoch was trained.
            if not has_constructor:
                self._passes.break_off()

    return EnqueuerDataset


def _loop_of(frame: FrameType | None) -> object | None:
    """The loop on whose behalf ``frame`` asks for a batch; None for somebody who only looks.

    Keras tells a dataset nothing but indices, which may be shuffled, and runs several loops over them: a peek, each
    epoch's, one whose prefetching thread has not ended yet. All versions do it in generators, and a generator has one
    frame for its life. The frame itself is the name, and not its id(), which the next generator's could get.
    """
    while frame is not None and frame.f_code.co_name == "__getitem__":
        frame = frame.f_back  # a dataset of the user's around this one
    if frame is None:
        return None
    if frame.f_code.co_name == "get_index":
        raise RuntimeError(
            "Keras runs workers of its own over this dataset, and the batches would come out of order: leave out "
            "workers= and use_multiprocessing=, the enqueuer has the workers"
        )
    return frame if frame.f_code.co_flags & CO_GENERATOR else None
