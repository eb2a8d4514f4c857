"""tf.data service: a dispatcher here and worker servers of one process each, over gRPC.

Python code does not run on its workers. What is moved is a tensor that is repeated, and the JPEG pipeline is
TensorFlow's own. By default compression is "AUTO"; at an equal depth there is none, as with all others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from tests.benchmarks.comparison.contestants.programs import running
from tests.benchmarks.sequences import JPEG_BATCH, JPEG_LEAST, JPEG_SIDE, jpeg_files, make


@contextmanager
def tf_data_service(kind: str, depth: int | None, workers: int) -> Iterator[Iterator[Any]]:
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    options = {} if depth is None else {"compression": None, "max_outstanding_requests": depth}
    with running("tf_data_service", [(dispatcher.target.split("://")[1],)] * workers):
        dataset = _jpegs() if kind == "jpeg" else tf.data.Dataset.from_tensors(make(kind)[0]).repeat()
        dataset = dataset.apply(
            service.distribute(processing_mode=service.ShardingPolicy.OFF, service=dispatcher.target, **options)
        )
        yield iter(dataset)


def _jpegs() -> Any:
    files = jpeg_files()
    dataset = tf.data.Dataset.from_tensor_slices((files, list(range(len(files))))).repeat()
    return dataset.map(_random_crop, num_parallel_calls=1).batch(JPEG_BATCH)


def _random_crop(file: Any, number: Any) -> Any:
    """`sequences.Crops` in TensorFlow's operations."""
    image = tf.io.decode_jpeg(file, channels=3)
    side = tf.cast(tf.shape(image)[:2], tf.float32) * tf.random.uniform((), JPEG_LEAST, 1.0)
    image = tf.image.random_crop(image, tf.concat([tf.cast(side, tf.int32), [3]], 0))
    image = tf.image.resize(image, (JPEG_SIDE, JPEG_SIDE))
    return tf.cast(image, tf.uint8), tf.cast(number, tf.int64)


def main() -> None:
    config = tf.data.experimental.service.WorkerConfig(dispatcher_address=sys.argv[1])
    tf.data.experimental.service.WorkerServer(config).join()


if __name__ == "__main__":
    main()
