"""The enqueuers of tf-keras (public: the API that ours has) and Keras 3 (internal: what its `fit` uses), processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.benchmarks.sequences import make


@contextmanager
def tf_keras(kind: str, depth: int | None, workers: int) -> Iterator[Iterator[Any]]:
    from tf_keras.utils import OrderedEnqueuer, Sequence

    class Batches(Sequence):  # type: ignore[misc]
        def __init__(self) -> None:
            self.sequence = make(kind)

        def __len__(self) -> int:
            return len(self.sequence)

        def __getitem__(self, index: int) -> Any:
            return self.sequence[index]

    enqueuer = OrderedEnqueuer(Batches(), use_multiprocessing=True)
    enqueuer.start(workers, *(() if depth is None else (depth,)))
    yield enqueuer.get()
    enqueuer.stop()


@contextmanager
def keras_3(kind: str, depth: int | None, workers: int) -> Iterator[Iterator[Any]]:
    from keras.src.trainers.data_adapters.py_dataset_adapter import OrderedEnqueuer
    from keras.utils import PyDataset

    class Batches(PyDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.sequence = make(kind)

        def __len__(self) -> int:
            return len(self.sequence)

        def __getitem__(self, index: int) -> Any:
            return self.sequence[index]

    options = {} if depth is None else {"max_queue_size": depth}
    enqueuer = OrderedEnqueuer(Batches(), workers=workers, use_multiprocessing=True, **options)
    enqueuer.start()
    yield enqueuer.get()
    enqueuer.stop()
