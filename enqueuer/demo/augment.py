"""The demo's `Sequence`: decodes images, enlarges and deforms them, adds noise, and makes them small again.

    PNG, JPEG … ─► WORK_SIZE² ─► turned, scaled, sheared, shifted; elastic ─► contrast, noise ─► mean of blocks ─► batch

Images are deformed at several times their final size, as a finer grid keeps thin strokes in one piece. This work is
worth moving to other processes and machines. Every worker builds its own `AugmentedImages` with `make_sequence` from a
few plain values, so only batches cross the network.
"""

from __future__ import annotations

import io
import socket
from math import ceil

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

import enqueuer
from enqueuer.demo.classifier import Floats
from enqueuer.demo.dataset import Dataset, ImageSource, LabelledImages, Labels
from enqueuer.demo.digits import load_digits
from enqueuer.demo.image_folder import ImageFolderError, load_image_folder

# The size at which images are deformed: a multiple of the final sizes of both kinds of images (16 and 32).
WORK_SIZE = 64
MAX_DEGREES = 10.0
MAX_SCALE = MAX_SHEAR = 0.1
# How far an image is shifted, and a point of it by the elastic deformation (one standard deviation), as shares of the
# image's size. Deformation with smoothed random fields: Simard et al., "Best Practices for Convolutional Neural
# Networks Applied to Visual Document Analysis" (2003).
MAX_SHIFT = 1 / 16
ELASTIC_SHIFT = 1 / 48
# The field is drawn on a grid of this many points in each direction and smoothed between them.
ELASTIC_POINTS = 6
MAX_CONTRAST = 0.2
# The deviation in the enlarged image; the mean of a block has less.
NOISE = 0.4


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
        images = [decode(source, self._mode, WORK_SIZE) for source in self._images.sources[chosen]]
        return np.stack([augment(image, self._image_size, rng) for image in images]), self._images.labels[chosen]


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


def augment(image: Image.Image, size: int, rng: np.random.Generator) -> Floats:
    """Deform a square image at random, add noise and reduce it: float32 (size, size, channels).

    ``size`` divides the image's.
    """
    pixels = resample(to_array(image), *deformation(image.width, rng))
    pixels *= np.float32(1 + rng.uniform(-MAX_CONTRAST, MAX_CONTRAST))
    pixels += np.float32(NOISE) * rng.standard_normal(pixels.shape, dtype=np.float32)
    block = image.width // size
    return np.asarray(pixels.reshape(size, block, size, block, -1).mean((1, 3)))


def deformation(size: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Where each pixel comes from, as rows and columns in the original: both float32 (size, size)."""
    angle = np.deg2rad(rng.uniform(-MAX_DEGREES, MAX_DEGREES))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.eye(2) + rng.uniform(-1, 1, (2, 2)) * [[MAX_SCALE, MAX_SHEAR], [MAX_SHEAR, MAX_SCALE]]
    middle = (size - 1) / 2
    centred = np.indices((size, size), dtype=np.float32) - np.float32(middle)
    origin = np.tensordot((turn @ stretch).astype(np.float32), centred, 1)
    origin += np.float32(middle) + (size * rng.uniform(-MAX_SHIFT, MAX_SHIFT, (2, 1, 1))).astype(np.float32)
    fields = rng.standard_normal((2, ELASTIC_POINTS, ELASTIC_POINTS), dtype=np.float32)
    for axis, field in enumerate(fields):
        smooth = Image.fromarray(field).resize((size, size), Image.Resampling.BICUBIC)
        origin[axis] += np.float32(ELASTIC_SHIFT * size) * np.asarray(smooth)
    return origin[0], origin[1]


def resample(pixels: Floats, rows: Floats, columns: Floats) -> Floats:
    """The image at these places, interpolated between four pixels; beyond the edge, the edge's own."""
    top, down = _split(rows, len(pixels))
    left, right = _split(columns, pixels.shape[1])
    upper = pixels[top, left] * (1 - right) + pixels[top, left + 1] * right
    lower = pixels[top + 1, left] * (1 - right) + pixels[top + 1, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)


def _split(places: Floats, size: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """The pixel before each place, and how far the place is behind it (0 to 1), with an axis for the channels."""
    inside = np.clip(places, 0, size - 1)
    before = np.minimum(inside.astype(np.intp), size - 2)
    return before, (inside - before).astype(np.float32)[..., np.newaxis]


def decode_all(images: LabelledImages, mode: str, size: int) -> tuple[Floats, Labels]:
    """Every image without augmentation, for evaluation: x (n, size, size, channels) and y (n,)."""
    return np.stack([to_array(decode(source, mode, size)) for source in images.sources]), images.labels


def to_array(image: Image.Image) -> Floats:
    """float32 (height, width, channels), -1 to 1: a network learns faster from values around 0."""
    pixels = np.array(image, dtype=np.float32).reshape(image.height, image.width, -1)
    pixels /= 127.5
    pixels -= 1
    return pixels
