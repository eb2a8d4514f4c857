"""The demo's data: encoded images with labels, split into a training part and a held-out part."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
# An encoded image: its bytes, or the path of its file.
ImageSource = bytes | str

# One in five images is held out. The split must be the same in every process and run, so it is no option.
HELD_OUT_FRACTION = 0.2
SPLIT_SEED = 20


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Encoded images and the class number of each: ``labels`` has the shape ``(len(sources),)``."""

    sources: tuple[ImageSource, ...]
    labels: Labels

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, indices: npt.NDArray[np.int64]) -> LabelledImages:
        """The images with these indices, in this order."""
        return LabelledImages(tuple(self.sources[i] for i in indices), self.labels[indices])


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images for training and held-out images for evaluation. ``mode`` is Pillow's pixel format ('L', 'RGB')."""

    class_names: tuple[str, ...]
    mode: str
    image_size: int
    train: LabelledImages
    held_out: LabelledImages

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one decoded image."""
        return (self.image_size, self.image_size, 1 if self.mode == "L" else 3)

    def fingerprint(self) -> str:
        """A digest of the classes, the labels and the paths of the training files; equal on machines with the same."""
        digest = hashlib.blake2b(repr(self.class_names).encode(), digest_size=16)
        digest.update(self.train.labels.astype("<i8").tobytes())
        # Images in memory are left out: their PNG bytes differ between compressor versions, their pixels do not.
        paths = [source for source in self.train.sources if isinstance(source, str)]
        digest.update(repr(paths).encode())
        return digest.hexdigest()


def split_held_out(images: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    """Split into (train, held out), always alike for the same input, with each class in the same proportion.

    The classes are shuffled within each part, so that a batch is a fair sample. Each class needs two images.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    train: list[npt.NDArray[np.int64]] = []
    held_out: list[npt.NDArray[np.int64]] = []
    for label in np.unique(images.labels):
        members = rng.permutation(np.flatnonzero(images.labels == label))
        count = max(1, round(len(members) * HELD_OUT_FRACTION))
        held_out.append(members[:count])
        train.append(members[count:])
    mixed = [images.take(rng.permutation(np.concatenate(parts))) for parts in (train, held_out)]
    return mixed[0], mixed[1]
