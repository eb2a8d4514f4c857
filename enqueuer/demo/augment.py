"""The demo's `Sequence`: decode, rotate, crop and add noise, with Pillow, a batch at a time.

This work is worth moving to other processes and machines. Every worker builds its own `AugmentedImages` with
`make_sequence` from a few plain values, so only batches cross the network.
"""

from __future__ import annotations

import io
import socket
from math import ceil

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

import enqueuer
from enqueuer.demo.classifier import Floats
from enqueuer.demo.dataset import Dataset, ImageSource, LabelledImages, Labels
from enqueuer.demo.digits import load_digits
from enqueuer.demo.image_folder import ImageFolderError, load_image_folder

MAX_DEGREES = 10.0
# How far a random crop may shift the image, as a share of its size, in each direction.
MAX_SHIFT = 1 / 16
NOISE = 0.1


class AugmentedImages(enqueuer.Sequence):
    """Batches ``(x, y)``: x float32 (n, height, width, channels), about -1 to 1, and y int64 (n,).

    The last batch of an epoch may be shorter than ``batch_size``.
    """

    def __init__(self, images: LabelledImages, mode: str, image_size: int, batch_size: int) -> None:
        self._images = images
        self._mode = mode
        self._image_size = image_size
        self._batch_size = batch_size

    def __len__(self) -> int:
        return ceil(len(self._images) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[Floats, Labels]:
        # The item's own generator gives the same batch on every worker and in every repetition.
        rng = enqueuer.item_rng()
        chosen = slice(index * self._batch_size, (index + 1) * self._batch_size)
        x = np.stack(
            [augment(decode(source, self._mode, self._image_size), rng) for source in self._images.sources[chosen]]
        )
        return x, self._images.labels[chosen]


def load_dataset(images: str | None) -> Dataset:
    """The user's image folder, or the digits for None."""
    return load_digits() if images is None else load_image_folder(images)


def make_sequence(images: str | None, batch_size: int, fingerprint: str) -> AugmentedImages:
    """The target of the demo's `SequenceSpec`: the training images of the digits, or of a folder on this machine.

    ``fingerprint`` is the trainer's `Dataset.fingerprint`; raises `ImageFolderError` if the images here have another.
    """
    dataset = load_dataset(images)
    if dataset.fingerprint() != fingerprint:
        raise ImageFolderError(f"{images} holds other images on {socket.gethostname()} than on the trainer's host")
    return AugmentedImages(dataset.train, dataset.mode, dataset.image_size, batch_size)


def decode(source: ImageSource, mode: str, size: int) -> Image.Image:
    """One image of ``size`` × ``size`` pixels, its longer side cropped. Raises `ImageFolderError` naming the file."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return ImageOps.fit(image.convert(mode), (size, size), Image.Resampling.BICUBIC)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        name = "an image" if isinstance(source, bytes) else source
        reason = "it is no image that Pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise ImageFolderError(f"cannot read {name}: {reason}") from error


def augment(image: Image.Image, rng: np.random.Generator) -> Floats:
    """Rotate and shift the image a little, and add noise: float32 (height, width, channels)."""
    size = image.width
    turned = image.rotate(rng.uniform(-MAX_DEGREES, MAX_DEGREES), Image.Resampling.BILINEAR)
    margin = ceil(size * MAX_SHIFT)
    left, top = (int(offset) for offset in rng.integers(0, 2 * margin, 2, endpoint=True))
    shifted = ImageOps.expand(turned, margin).crop((left, top, left + size, top + size))
    pixels = to_array(shifted)
    pixels += np.float32(NOISE) * rng.standard_normal(pixels.shape, dtype=np.float32)
    return pixels


def decode_all(images: LabelledImages, mode: str, size: int) -> tuple[Floats, Labels]:
    """Every image without augmentation, for evaluation: x (n, size, size, channels) and y (n,)."""
    return np.stack([to_array(decode(source, mode, size)) for source in images.sources]), images.labels


def to_array(image: Image.Image) -> Floats:
    """float32 (height, width, channels), -1 to 1: a network learns faster from values around 0."""
    pixels = np.array(image, dtype=np.float32).reshape(image.height, image.width, -1)
    pixels /= 127.5
    pixels -= 1
    return pixels
