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
_CROPS_BATCH, _CROPS_SIDE = 8, 64
_DIGITS_BATCH, _DIGIT_SIDE = 32, 8
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


class Crops:
    """``count`` JPEGs decoded, cropped at random and resized to (side, side, 3) uint8, and their numbers."""

    def __init__(self, length: int, count: int, side: int) -> None:
        self.length, self.count, self.side = length, count, side
        self.files = jpeg_files()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        numbers = np.arange(index * self.count, (index + 1) * self.count) % len(self.files)
        images = np.empty((self.count, self.side, self.side, 3), np.uint8)
        for image, number in zip(images, numbers, strict=True):
            image[:] = _random_crop(self.files[number], self.side)
        return images, numbers


def _random_crop(file: bytes, side: int) -> Any:
    from PIL import Image

    with Image.open(io.BytesIO(file)) as image:
        share = random.uniform(JPEG_LEAST, 1)
        width, height = int(image.width * share), int(image.height * share)
        left, top = random.randint(0, image.width - width), random.randint(0, image.height - height)
        box = (left, top, left + width, top + height)
        return image.resize((side, side), Image.Resampling.BILINEAR, box)


class Digits:
    """32 PNGs of 8 x 8 decoded, rotated at random and cropped to float32: many short calls, some 2 ms and 8 KB."""

    def __init__(self, length: int) -> None:
        from PIL import Image

        generator = np.random.default_rng(0)
        self.length = length
        self.files = []
        for _ in range(256):
            file = io.BytesIO()
            Image.fromarray(generator.integers(0, 255, (_DIGIT_SIDE, _DIGIT_SIDE), np.uint8)).save(file, "PNG")
            self.files.append(file.getvalue())

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        numbers = np.arange(index * _DIGITS_BATCH, (index + 1) * _DIGITS_BATCH) % len(self.files)
        images = np.empty((_DIGITS_BATCH, _DIGIT_SIDE, _DIGIT_SIDE, 1), np.float32)
        for image, number in zip(images, numbers, strict=True):
            image[:] = _random_turn(self.files[number])
        return images, numbers


def _random_turn(file: bytes) -> np.ndarray:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(file)) as image:
        turned = image.convert("L").rotate(random.uniform(-10, 10), Image.Resampling.BILINEAR)
    cropped = ImageOps.expand(turned, 1).crop((0, 0, _DIGIT_SIDE, _DIGIT_SIDE))
    return np.asarray(cropped, np.float32)[:, :, np.newaxis] / 127.5 - 1


# By kind: the class and its arguments, so that a worker on another machine can be told by name. Lengths that a run does
# not reach, since what an epoch's end costs is not what is measured.
SOURCES: dict[str, tuple[type, dict[str, Any]]] = {
    **{kind: (Large, {"kind": kind}) for kind in KINDS},
    "small": (Small, {"length": 1_000_000}),
    "sleep20": (SleepingSmall, {"length": 100_000, "seconds": 0.020}),
    "digits": (Digits, {"length": 1_000_000}),
    "crops": (Crops, {"length": 1_000_000, "count": _CROPS_BATCH, "side": _CROPS_SIDE}),
    "jpeg": (Crops, {"length": 100_000, "count": JPEG_BATCH, "side": JPEG_SIDE}),
}


def make(kind: str) -> Any:
    """A Sequence of this kind: each batch is a pair of arrays."""
    cls, arguments = SOURCES[kind]
    return cls(**arguments)
