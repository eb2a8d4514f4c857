from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from enqueuer.demo.image_folder import ImageFolderError, load_image_folder
from enqueuer.errors import ConfigurationError


def test_sub_folders_are_classes_in_the_order_of_their_names(image_folder: Path):
    dataset = load_image_folder(image_folder)
    assert dataset.class_names == ("bright", "dark")
    for source, label in zip(dataset.train.sources, dataset.train.labels, strict=True):
        assert Path(source).parent.name == dataset.class_names[label]


def test_a_fifth_of_each_class_is_held_out_and_nothing_is_lost(image_folder: Path):
    dataset = load_image_folder(image_folder)
    assert np.bincount(dataset.held_out.labels).tolist() == [2, 2]
    both = {*dataset.train.sources, *dataset.held_out.sources}
    assert both == {str(path) for path in image_folder.rglob("*.png")}
    assert len(dataset.train) + len(dataset.held_out) == len(both)


def test_the_split_is_the_same_every_time(image_folder: Path):
    assert load_image_folder(image_folder).held_out.sources == load_image_folder(str(image_folder)).held_out.sources


def test_images_in_deeper_folders_belong_to_the_class_above_them(image_folder: Path):
    (image_folder / "dark" / "night").mkdir()
    shutil.copy(image_folder / "dark" / "0.png", image_folder / "dark" / "night" / "0.PNG")
    assert load_image_folder(image_folder).class_names == ("bright", "dark")
    assert len(load_image_folder(image_folder).train) == 17


def test_hidden_folders_and_folders_without_images_are_no_classes(image_folder: Path):
    shutil.copytree(image_folder / "dark", image_folder / ".cache")
    (image_folder / "notes").mkdir()
    (image_folder / "notes" / "read.me").write_text("nothing to see")
    assert load_image_folder(image_folder).class_names == ("bright", "dark")


def test_another_file_makes_another_fingerprint(image_folder: Path):
    before = load_image_folder(image_folder).fingerprint()
    (image_folder / "dark" / "0.png").rename(image_folder / "dark" / "10.png")
    assert load_image_folder(image_folder).fingerprint() != before


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=f"there is no folder {re.escape(str(tmp_path / 'gone'))}"):
        load_image_folder(tmp_path / "gone")


def test_a_file_is_not_a_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ImageFolderError, match="file is not a folder"):
        load_image_folder(tmp_path / "file")


def test_a_folder_without_sub_folders_is_refused(tmp_path: Path):
    with pytest.raises(ImageFolderError, match="has no sub-folders; each class needs one"):
        load_image_folder(tmp_path)


def test_sub_folders_without_images_are_refused(tmp_path: Path):
    (tmp_path / "cats").mkdir()
    with pytest.raises(ImageFolderError, match="hold no images"):
        load_image_folder(tmp_path)


def test_a_single_class_is_refused(image_folder: Path):
    shutil.rmtree(image_folder / "dark")
    with pytest.raises(ImageFolderError, match=r"one class only \(bright\); two are needed"):
        load_image_folder(image_folder)


def test_a_class_with_a_single_image_is_refused(image_folder: Path):
    for path in sorted((image_folder / "dark").iterdir())[1:]:
        path.unlink()
    with pytest.raises(ImageFolderError, match="dark has one image only"):
        load_image_folder(image_folder)
