"""What the benchmarks distribute: production almost free, nothing but sleep, or real JPEGs."""

from __future__ import annotations

import io
import random
import time
from typing import Any

import numpy as np


class Small:
    """(32, 10) float32 and 32 labels: 1.5 KB, made once."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.batch = (np.random.default_rng(0).random((32, 10), np.float32), np.arange(32))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.batch


class Sleeping:
    """A batch whose preprocessing takes ``seconds``; every ``slow_every``-th takes ``slow_seconds`` instead."""

    def __init__(self, length: int, seconds: float, slow_every: int = 0, slow_seconds: float = 0.0) -> None:
        self.length, self.seconds = length, seconds
        self.slow_every, self.slow_seconds = slow_every, slow_seconds

    def __len__(self) -> int:
        return self.length

    def is_slow(self, index: int) -> bool:
        """A fixed pseudo-random choice: slow batches come in bunches, as they do in life."""
        return bool(self.slow_every) and (index * 2654435761 >> 7) % self.slow_every == 0

    def __getitem__(self, index: int) -> int:
        time.sleep(self.slow_seconds if self.is_slow(index) else self.seconds)
        return index


# What a batch of each kind holds, beside its labels.
KINDS: dict[str, tuple[tuple[int, ...], str]] = {
    "img8": ((64, 224, 224, 3), "uint8"),
    "imgf": ((64, 224, 224, 3), "float32"),
    "mid": ((256, 784), "float32"),
}


class Large:
    """The same array each time: what it costs to make one is not what is measured."""

    def __init__(self, kind: str) -> None:
        shape, dtype = KINDS[kind]
        self.array = np.ones(shape, dtype)
        self.labels = np.zeros(shape[0], np.int64)

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.array, self.labels


class SleepingSmall(Small):
    """The batch of `Small`, after a sleep: what is measured is whether somebody is ready when it ends."""

    def __init__(self, length: int, seconds: float) -> None:
        super().__init__(length)
        self.seconds = seconds

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(self.seconds)
        return self.batch


JPEG_BATCH, JPEG_SIDE = 32, 224
# The least part of a side that a crop keeps; width and height of the files.
JPEG_LEAST = 0.7
_JPEG_SIZE = (320, 240)


def jpeg_files(count: int = 64) -> list[bytes]:
    """JPEGs of some 20 KB, the same ones in every process: clouds and a little grain, which decode like photographs."""
    from PIL import Image

    generator = np.random.default_rng(0)
    files = []
    for _ in range(count):
        clouds = Image.fromarray(generator.integers(0, 256, (12, 16, 3), np.uint8)).resize(_JPEG_SIZE)
        grain = generator.integers(-12, 13, (_JPEG_SIZE[1], _JPEG_SIZE[0], 3))
        pixels = np.clip(np.asarray(clouds, np.int64) + grain, 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=85)
        files.append(file.getvalue())
    return files


class Jpeg:
    """32 files decoded, cropped at random and resized to (224, 224, 3) uint8, and their numbers: some 60 ms."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.files = jpeg_files()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        numbers = np.arange(index * JPEG_BATCH, (index + 1) * JPEG_BATCH) % len(self.files)
        images = np.empty((JPEG_BATCH, JPEG_SIDE, JPEG_SIDE, 3), np.uint8)
        for image, number in zip(images, numbers, strict=True):
            image[:] = _random_crop(self.files[number])
        return images, numbers


def _random_crop(file: bytes) -> Any:
    from PIL import Image

    with Image.open(io.BytesIO(file)) as image:
        share = random.uniform(JPEG_LEAST, 1)
        width, height = int(image.width * share), int(image.height * share)
        left, top = random.randint(0, image.width - width), random.randint(0, image.height - height)
        box = (left, top, left + width, top + height)
        return image.resize((JPEG_SIDE, JPEG_SIDE), Image.Resampling.BILINEAR, box)


# By kind: the class and its arguments, so that a worker on another machine can be told by name. Lengths that a run does
# not reach, since what an epoch's end costs is not what is measured.
SOURCES: dict[str, tuple[type, dict[str, Any]]] = {
    **{kind: (Large, {"kind": kind}) for kind in KINDS},
    "small": (Small, {"length": 1_000_000}),
    "sleep20": (SleepingSmall, {"length": 100_000, "seconds": 0.020}),
    "jpeg": (Jpeg, {"length": 100_000}),
}


def make(kind: str) -> Any:
    """A Sequence of this kind: each batch is a pair of arrays."""
    cls, arguments = SOURCES[kind]
    return cls(**arguments)
