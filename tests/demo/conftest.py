"""A small image folder: dark and bright squares, so that a classifier can tell the classes apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

CLASSES = {"bright": 200, "dark": 40}
IMAGES_EACH = 10


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name, level in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for number in range(IMAGES_EACH):
            Image.new("RGB", (20 + number, 20), (level, level, number)).save(folder / name / f"{number}.png")
    return folder
