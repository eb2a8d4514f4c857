"""Datasets of Keras' own kinds, importable by remote workers. ENQUEUER_TEST_KERAS names the module."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import numpy as np

keras = import_module(os.environ["ENQUEUER_TEST_KERAS"])


class Dataset(keras.utils.Sequence):  # type: ignore[misc]
    """A PyDataset; tf-keras calls it a Sequence."""

    def __init__(self, length: int) -> None:
        if hasattr(keras.utils, "PyDataset"):
            super().__init__(workers=4, use_multiprocessing=True)
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full((4, 3), index, np.float32), np.arange(4)


def make_dataset(length: int) -> Dataset:
    return Dataset(length)


class Augmented(Dataset):
    """Images that random layers change, each with a generator of its own."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.layers = keras.Sequential([keras.layers.RandomBrightness(0.2), keras.layers.RandomFlip()])

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        images = np.arange(60, 108, dtype=np.float32).reshape(1, 4, 4, 3)
        return (np.asarray(self.layers(images, training=True)),)


def image_iterator(shuffle: bool) -> Any:
    """Keras' iterator over 20 images in memory; it holds a lock, and cannot be pickled."""
    if hasattr(keras.utils, "PyDataset"):
        from keras.src.legacy.preprocessing.image import ImageDataGenerator
    else:
        ImageDataGenerator = keras.preprocessing.image.ImageDataGenerator
    images = np.arange(20 * 64, dtype=np.float32).reshape(20, 8, 8, 1)
    generator = ImageDataGenerator(horizontal_flip=True, width_shift_range=2)
    iterator = generator.flow(images, np.arange(20), batch_size=4, shuffle=shuffle)
    # Draws the order of the first epoch now: otherwise each worker would draw its own with its first batch.
    iterator.on_epoch_end()
    return iterator
