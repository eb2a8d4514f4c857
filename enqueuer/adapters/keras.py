"""Keras 3 (any backend), tf-keras 2 and TensorFlow's own Keras: an enqueuer as a dataset for their ``fit``.

with SequenceEnqueuer(sequence, use_multiprocessing=True, shuffle=True) as enq:
    enq.start(workers=8)
    model.fit(as_dataset(enq), epochs=3)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from inspect import CO_GENERATOR
from types import FrameType, ModuleType
from typing import Any

from enqueuer.adapters._frameworks import import_framework
from enqueuer.adapters._loops import EpochLoops
from enqueuer.compute.sequence_checks import ENDLESS
from enqueuer.sequence_enqueuer import SequenceEnqueuer


def as_dataset(enqueuer: SequenceEnqueuer, keras: ModuleType | None = None) -> Any:
    """A ``keras.utils.PyDataset`` for ``fit``, ``evaluate``, ``predict`` and ``validation_data=``.

    ``keras`` is the module that the model comes from, if that is not ``import keras``: with ``tf_keras`` (or
    ``tf.keras`` before 2.16, or with ``TF_USE_LEGACY_KERAS``) the dataset is a ``keras.utils.Sequence`` instead.

    The dataset is a view: ``start()`` the enqueuer before, ``stop()`` it after. Keras' epochs are the enqueuer's;
    batches come in the enqueuer's order, each once, whatever Keras peeks at or prefetches. Keras' own shuffling
    (``fit(shuffle=)``) changes nothing: ``SequenceEnqueuer(shuffle=)`` decides the order. The enqueuer calls
    ``on_epoch_end`` of the Sequence, once an epoch; a callback's changes of the Sequence are in force from the next
    epoch on.

    Views of one enqueuer are readers of their own: each begins with the first batch of an epoch. A training that ended
    in the middle of one (an exception, Ctrl-C, ``stop_training`` in a batch) leaves the enqueuer running, and the next
    ``fit`` begins a new pass. Under ``fit(steps_per_epoch=n)`` ``on_epoch_end`` runs after each of Keras' epochs. Then
    Keras 3 goes on in its pass, and tf-keras begins a new one, each as with a dataset of its own.

    Leave Keras' own ``workers`` and ``use_multiprocessing`` alone: a second layer of workers is refused. So is Keras'
    sharding among processes (``keras.distribution``): use ``SequenceEnqueuer(shard=)``.
    """
    return _view_class(import_framework("keras") if keras is None else keras)(enqueuer)


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
            self._loops = EpochLoops(enqueuer, counted=True)

        if has_constructor:

            @base.workers.getter  # type: ignore[untyped-decorator]
            def workers(self) -> Any:
                """Keras' adapter asks for this in its constructor, in which it reads the distribution as well."""
                _refuse_double_sharding(keras)
                return super().workers

        def __len__(self) -> int:
            _refuse_double_sharding(keras)
            return len(self._loops)

        @property
        def num_batches(self) -> int | None:
            """``len()``; None for a dataset without an end, of which Keras trains ``steps_per_epoch``."""
            count = len(self)
            return None if count == ENDLESS else count

        def __getitem__(self, index: int) -> Any:
            """The next batch of the pass. ``index`` is ignored: Keras may ask in a shuffled order."""
            return self._loops.next_batch(_loop_of(sys._getframe(1)))

        def __iter__(self) -> Iterator[Any]:
            loop = object()
            for _ in range(len(self)):
                yield self._loops.next_batch(loop)

        def on_epoch_end(self) -> None:
            """The end of Keras' epoch, which may be shorter than the Sequence's."""
            # Keras 3 calls this also between its peek and its first epoch, and goes on with the same loop afterwards.
            # tf-keras calls it only after an epoch, and begins a loop for the next one.
            if _caller_of("on_epoch_end", sys._getframe(1)) != "reset":
                self._loops.end_pass(may_go_on=has_constructor)

    return EnqueuerDataset


def _refuse_double_sharding(keras: ModuleType) -> None:
    """Raise RuntimeError if Keras would divide the batches among processes by indices, which the enqueuer ignores.

    The distribution is that of this thread and of the ``with`` block around: later loops may not see it.
    """
    distribution: Any = keras.distribution.distribution() if hasattr(keras, "distribution") else None
    count = getattr(distribution, "num_processes", 1)
    if count > 1 and getattr(distribution, "auto_shard_dataset", False):
        shards = getattr(distribution, "num_data_shards", min(count, distribution.num_model_replicas))
        shard = distribution.data_shard_id, shards
        raise RuntimeError(
            f"keras.distribution divides datasets among {count} processes, and cannot divide an enqueuer's: set "
            f"distribution.auto_shard_dataset = False, and give SequenceEnqueuer(shard={shard}) in this process"
        )


def _caller_of(name: str, frame: FrameType | None) -> str:
    """The name of the function that called all these functions called ``name``, of adapters and a user's datasets."""
    while frame is not None and frame.f_code.co_name == name:
        frame = frame.f_back
    return "" if frame is None else frame.f_code.co_name


def _loop_of(frame: FrameType | None) -> object | None:
    """The loop that ``frame`` asks for a batch for; None for a caller outside of any loop, such as a look at shapes.

    Keras gives a dataset nothing but indices, which may be shuffled, and runs several loops over them: a peek, each
    epoch's, one with a prefetching thread that has not ended yet. All versions run them in generators, and a generator
    has one frame for its life. The frame itself is the name: the next generator's frame could have the same id().
    """
    while frame is not None and frame.f_code.co_name == "__getitem__":
        frame = frame.f_back  # of a user's dataset around this one
    if frame is None:
        return None
    if frame.f_code.co_name == "get_index":
        raise RuntimeError(
            "Keras runs workers of its own over this dataset, and the batches would come out of order: leave out "
            "workers= and use_multiprocessing=, the enqueuer has the workers"
        )
    return frame if frame.f_code.co_flags & CO_GENERATOR else None
