"""The user's own images: a folder with one sub-folder for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from enqueuer.demo.dataset import Dataset, LabelledImages, split_held_out
from enqueuer.errors import ConfigurationError

IMAGE_SIZE = 32
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class ImageFolderError(ConfigurationError):
    """The image folder cannot be trained on; the text names the folder or the file."""


def load_image_folder(folder: str | Path) -> Dataset:
    """The images below ``folder``, one class for each sub-folder with images; split the same way every time.

    This lists the files; `decode` reads them later. Hidden sub-folders are left out.
    Raises `ImageFolderError` if there are fewer than two classes, or a class with one image.
    """
    classes = _list_classes(Path(folder))
    paths = [str(path) for files in classes.values() for path in files]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(files) for files in classes.values()])
    train, held_out = split_held_out(LabelledImages(tuple(paths), labels))
    return Dataset(tuple(classes), "RGB", IMAGE_SIZE, train, held_out)


def _list_classes(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise ImageFolderError(f"there is no folder {folder}" if not folder.exists() else f"{folder} is not a folder")
    sub_folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not sub_folders:
        raise ImageFolderError(f"{folder} has no sub-folders; each class needs one, with its images inside")
    classes = {path.name: files for path in sub_folders if (files := _list_images(path))}
    if not classes:
        raise ImageFolderError(f"the sub-folders of {folder} hold no images ({', '.join(sorted(SUFFIXES))})")
    if len(classes) == 1:
        raise ImageFolderError(f"{folder} has images of one class only ({next(iter(classes))}); two are needed")
    for name, files in classes.items():
        if len(files) < 2:
            raise ImageFolderError(
                f"{folder / name} has one image only; a class needs one to train on, one to hold out"
            )
    return classes


def _list_images(folder: Path) -> list[Path]:
    """All images below ``folder``, sorted, because file systems list files in different orders."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
