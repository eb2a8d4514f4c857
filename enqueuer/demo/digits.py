"""The UCI handwritten digits from scikit-learn: 1 797 real scans of 8 × 8 pixels, without a download."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from enqueuer.demo.dataset import Dataset, LabelledImages, split_held_out

# Twice the scan's own size: rotations by a few degrees would be lost in the coarse grid.
IMAGE_SIZE = 16
# The scans have 17 grey levels, 0 to 16.
FULL_SCALE = 16.0


def load_digits() -> Dataset:
    """The digits as PNG files in memory, so that decoding them costs as much as decoding files."""
    from sklearn import datasets  # it takes a second to import, and `--images` does not need it

    bundle = datasets.load_digits()
    pixels = np.round(bundle.images * (255.0 / FULL_SCALE)).astype(np.uint8)
    images = LabelledImages(tuple(_png(scan) for scan in pixels), bundle.target.astype(np.int64))
    train, held_out = split_held_out(images)
    return Dataset(tuple(str(digit) for digit in range(10)), "L", IMAGE_SIZE, train, held_out)


def _png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()
